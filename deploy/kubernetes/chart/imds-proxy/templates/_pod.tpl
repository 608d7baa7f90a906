{{/* The daemon's container, but for what differs between a DaemonSet and a sidecar. */}}
{{- define "imds-proxy.container" -}}
name: imds-proxy
image: {{ include "imds-proxy.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve, --log-format, json, --log-level, {{ .Values.logLevel }}]
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  # A file by itself, so that other volumes can be mounted beside it; a change of it replaces the pods.
  - {name: imds-proxy-config, mountPath: /etc/imds-proxy/config.toml, subPath: config.toml, readOnly: true}
  - {name: imds-proxy-state, mountPath: /var/lib/imds-proxy}
  {{- if .Values.secretFiles }}
  - {name: imds-proxy-secrets, mountPath: /etc/imds-proxy/secrets, readOnly: true}
  {{- end }}
  {{- if .Values.metrics.tls.secretName }}
  - {name: imds-proxy-tls, mountPath: /etc/imds-proxy/tls, readOnly: true}
  {{- end }}
  {{- if .Values.awsToken.enabled }}
  - {name: imds-proxy-aws-token, mountPath: /var/run/secrets/imds-proxy/aws, readOnly: true}
  {{- end }}
  {{- if eq .Values.mode "daemonset" }}
  - {name: imds-proxy-api-server, mountPath: /var/run/secrets/imds-proxy/api-server, readOnly: true}
  {{- end }}
{{- end -}}

{{/* Their names are not those that an application would give to its own. */}}
{{- define "imds-proxy.volumes" -}}
- name: imds-proxy-config
  configMap: {name: {{ include "imds-proxy.fullname" . | quote }}}
- name: imds-proxy-state
  {{- if eq .Values.state.type "hostPath" }}
  hostPath: {path: {{ .Values.state.path | quote }}, type: DirectoryOrCreate}
  {{- else }}
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.state.sizeLimit | quote }}}
  {{- end }}
{{- with .Values.secretFiles }}
- name: imds-proxy-secrets
  projected:
    # Root's to read, and the group's where the pod has an fsGroup: the daemon refuses keys that everybody can read.
    defaultMode: 0400
    sources:
      {{- range . }}
      - secret:
          {{- toYaml . | nindent 10 }}
      {{- end }}
{{- end }}
{{- if .Values.metrics.tls.secretName }}
- name: imds-proxy-tls
  projected:
    defaultMode: 0400
    sources:
      - secret:
          name: {{ .Values.metrics.tls.secretName | quote }}
          items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
      {{- with .Values.metrics.clientCa }}
      {{- if or .secretName .configMapName }}
      - {{ ternary "secret" "configMap" (ne .secretName "") }}:
          name: {{ .secretName | default .configMapName | quote }}
          items: [{key: {{ .key | quote }}, path: client-ca.crt}]
      {{- end }}
      {{- end }}
{{- end }}
{{- if .Values.awsToken.enabled }}
- name: imds-proxy-aws-token
  projected:
    defaultMode: 0400
    sources:
      - serviceAccountToken:
          audience: {{ .Values.awsToken.audience | quote }}
          expirationSeconds: {{ .Values.awsToken.expirationSeconds | int }}
          path: token
{{- end }}
{{- if eq .Values.mode "daemonset" }}
- name: imds-proxy-api-server
  projected:
    defaultMode: 0400
    sources:
      - serviceAccountToken: {expirationSeconds: 3600, path: token}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end -}}

{{- define "imds-proxy.podMetadata" -}}
labels:
  {{- include "imds-proxy.labels" . | nindent 2 }}
  app.kubernetes.io/component: daemon
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # Another config replaces the pods, by the update strategy.
  checksum/config: {{ include "imds-proxy.config" . | sha256sum }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "imds-proxy.scheme" -}}
{{- ternary "HTTPS" "HTTP" (ne .Values.metrics.tls.secretName "") -}}
{{- end -}}

{{/* The kubelet is on the node, as the daemon is: it asks at the loopback address, which no other host reaches. */}}
{{- define "imds-proxy.nodeProbe" -}}
{{- with index . 0 -}}
host: {{ ternary "::1" "127.0.0.1" (and .Values.metrics.enabled (eq .Values.metrics.address "::")) | quote }}
path: {{ index $ 1 }}
port: imds-metrics
scheme: {{ include "imds-proxy.scheme" . }}
{{- end -}}
{{- end -}}
