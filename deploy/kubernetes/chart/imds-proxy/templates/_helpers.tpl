{{- define "imds-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "imds-proxy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "imds-proxy.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "imds-proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "imds-proxy.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "imds-proxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "imds-proxy.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Pods of the daemon, and not those of the webhook. */}}
{{- define "imds-proxy.daemonSelector" -}}
{{ include "imds-proxy.selectorLabels" . }}
app.kubernetes.io/component: daemon
{{- end -}}

{{- define "imds-proxy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "imds-proxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "imds-proxy.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- if .Values.image.digest -}}
{{- $image = printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- end -}}
{{- $image -}}
{{- end -}}

{{/* An IP address as a URL and a listener have it. */}}
{{- define "imds-proxy.host" -}}
{{- ternary (printf "[%s]" .) . (contains ":" .) -}}
{{- end -}}

{{/* What pods ask for credentials: the first address of the DaemonSet. */}}
{{- define "imds-proxy.credentialsUri" -}}
{{- $port := int .Values.daemonset.port -}}
http://{{ include "imds-proxy.host" (first .Values.daemonset.addresses) }}{{ if ne $port 80 }}:{{ $port }}{{ end }}/v1/credentials
{{- end -}}
