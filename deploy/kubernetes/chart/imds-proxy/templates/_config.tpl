{{/*
config.toml: the value `config`, and what the chart knows. Both in one table would be no TOML, and a key that both say
would leave open which one holds: that is refused here, not in a pod that crashes.
*/}}
{{- define "imds-proxy.config" -}}
{{- $config := fromToml .Values.config -}}
{{- with $config.Error }}{{ fail (printf "config is not valid TOML: %s" .) }}{{ end -}}
{{- if not $config.roles }}{{ fail "config: say at least one role, as in [roles.app] with role_arn = \"arn:aws:iam::ACCOUNT:role/NAME\"" }}{{ end -}}
{{- if not (has (get $config "state_dir" | default "") (list "" "/var/lib/imds-proxy")) }}{{ fail "config: state_dir is /var/lib/imds-proxy, where the chart mounts the value state; or \"\", to keep nothing" }}{{ end -}}
{{- if not (hasKey $config "state_dir") }}{{ $_ := set $config "state_dir" "/var/lib/imds-proxy" }}{{ end -}}
{{- include "imds-proxy.contradictions" . -}}
{{- $made := dict "metadata" (dict "listen" (include "imds-proxy.listen" . | fromJsonArray)) "admin" (include "imds-proxy.admin" . | fromJson) -}}
{{- if eq .Values.mode "daemonset" -}}
{{- if not $config.grants }}{{ fail "config: say in [[grants]] which service_account may have which role: every pod of a node reaches the daemon there" }}{{ end -}}
{{- $_ := set $made "service_accounts" (include "imds-proxy.serviceAccountsTable" . | fromJson) -}}
{{- end -}}
{{- range $table, $keys := $made -}}
{{- $own := get $config $table | default dict -}}
{{- range $key, $value := $keys -}}
{{- if hasKey $own $key }}{{ fail (printf "config: [%s] %s is made by the chart: take it out, and set the value %s" $table $key (include "imds-proxy.valueOf" (printf "%s.%s" $table $key))) }}{{ end -}}
{{- $_ := set $own $key $value -}}
{{- end -}}
{{- $_ := set $config $table $own -}}
{{- end -}}
{{- toToml $config -}}
{{- end -}}

{{/* Which value a key of config.toml is made of. */}}
{{- define "imds-proxy.valueOf" -}}
{{- get (dict "metadata.listen" "daemonset.addresses and daemonset.port, or sidecar.port" "admin.listen" "metrics.address and metrics.port" "admin.allowed_addresses" "metrics.allowedAddresses" "admin.certificate" "metrics.tls.secretName" "admin.private_key" "metrics.tls.secretName" "admin.client_ca" "metrics.clientCa" "service_accounts.issuer" "serviceAccounts.issuer" "service_accounts.jwks_url" "serviceAccounts.jwksUrl" "service_accounts.audience" "serviceAccounts.audiences") . | default "serviceAccounts" -}}
{{- end -}}

{{- define "imds-proxy.listen" -}}
{{- $listen := list -}}
{{- if eq .Values.mode "daemonset" -}}
{{- $port := int .Values.daemonset.port -}}
{{- range .Values.daemonset.addresses }}{{ $listen = append $listen (printf "%s:%d" (include "imds-proxy.host" .) $port) }}{{ end -}}
{{- else -}}
{{- $listen = list (printf "127.0.0.1:%d" (int .Values.sidecar.port)) -}}
{{- end -}}
{{- toJson $listen -}}
{{- end -}}

{{/*
[admin]. A kubelet reaches the daemon of a DaemonSet at the node's loopback address, and that of a sidecar at the pod's:
so a sidecar listens there without metrics, too, and shows others health alone.
*/}}
{{- define "imds-proxy.admin" -}}
{{- $metrics := .Values.metrics -}}
{{- $address := ternary $metrics.address "127.0.0.1" (or $metrics.enabled (eq .Values.mode "sidecar")) -}}
{{- $admin := dict "listen" (printf "%s:%d" (include "imds-proxy.host" $address) (int $metrics.port)) -}}
{{- if $metrics.enabled -}}
{{- $ca := include "imds-proxy.hasClientCa" . -}}
{{- if and $ca (not $metrics.tls.secretName) }}{{ fail "metrics.clientCa needs metrics.tls.secretName: only over TLS a client shows a certificate" }}{{ end -}}
{{- if not (or $ca $metrics.allowedAddresses) }}{{ fail "metrics.enabled: say who sees them: metrics.clientCa with metrics.tls, or metrics.allowedAddresses" }}{{ end -}}
{{- range $metrics.allowedAddresses }}{{ if hasSuffix "/0" . }}{{ fail (printf "metrics.allowedAddresses: %s is every network: name Prometheus' own" .) }}{{ end }}{{ end -}}
{{- with $metrics.allowedAddresses }}{{ $_ := set $admin "allowed_addresses" . }}{{ end -}}
{{- if $metrics.tls.secretName -}}
{{- $_ := set $admin "certificate" "/etc/imds-proxy/tls/tls.crt" -}}
{{- $_ := set $admin "private_key" "/etc/imds-proxy/tls/tls.key" -}}
{{- end -}}
{{- if $ca }}{{ $_ := set $admin "client_ca" "/etc/imds-proxy/tls/client-ca.crt" }}{{ end -}}
{{- else if or $metrics.tls.secretName $metrics.allowedAddresses (include "imds-proxy.hasClientCa" .) $metrics.podMonitor.enabled -}}
{{- fail "metrics.tls, clientCa, allowedAddresses and podMonitor do nothing while metrics.enabled is false" -}}
{{- end -}}
{{- toJson $admin -}}
{{- end -}}

{{- define "imds-proxy.hasClientCa" -}}
{{- with .Values.metrics.clientCa -}}
{{- if and .secretName .configMapName }}{{ fail "metrics.clientCa: give secretName or configMapName, not both" }}{{ end -}}
{{- if or .secretName .configMapName }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* The cluster's keys, from its API server: any service account may read them, so the cluster needs no public issuer. */}}
{{- define "imds-proxy.serviceAccountsTable" -}}
{{- $audiences := .Values.serviceAccounts.audiences -}}
{{- $audience := ternary (first $audiences) $audiences (eq (len $audiences) 1) -}}
{{- dict "issuer" .Values.serviceAccounts.issuer "jwks_url" .Values.serviceAccounts.jwksUrl "audience" $audience "ca_bundle" "/var/run/secrets/imds-proxy/api-server/ca.crt" "token_file" "/var/run/secrets/imds-proxy/api-server/token" | toJson -}}
{{- end -}}

{{/* Values that cannot all be meant; those about config.toml are told above, where it is made. */}}
{{- define "imds-proxy.contradictions" -}}
{{- $nodes := eq .Values.mode "daemonset" -}}
{{- $injects := or .Values.webhook.enabled .Values.injectionPolicy.enabled -}}
{{- if eq (int .Values.metrics.port) (int (ternary .Values.daemonset.port .Values.sidecar.port $nodes)) -}}
{{- fail "metrics.port is the port where credentials are served: give them different ones" -}}
{{- else if and $injects (not $nodes) -}}
{{- fail "webhook and injectionPolicy lead pods to the daemon of their node: they need mode: daemonset" -}}
{{- else if and $injects (not (has .Values.webhook.audience .Values.serviceAccounts.audiences)) -}}
{{- fail "webhook.audience is none of serviceAccounts.audiences: the daemon would refuse every token that is injected" -}}
{{- else if and (eq .Values.state.type "hostPath") (not $nodes) -}}
{{- fail "state.type: hostPath needs mode: daemonset: a sidecar's user may not write there, and its pods would share it" -}}
{{- else if and $nodes (eq .Values.daemonset.dnsPolicy "Default") (regexMatch "[.]svc([.:/]|$)" .Values.serviceAccounts.jwksUrl) -}}
{{- fail "daemonset.dnsPolicy: Default does not know the name in serviceAccounts.jwksUrl: write the API server's address there" -}}
{{- end -}}
{{- end -}}
