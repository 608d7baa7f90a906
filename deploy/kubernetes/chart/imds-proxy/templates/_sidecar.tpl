{{/*
The daemon beside an application, as an init container that goes on running: it starts first, the application waits
until there are credentials, and a Job ends when its own containers have ended. It passes Pod Security "restricted".
*/}}
{{- define "imds-proxy.sidecar" -}}
{{ include "imds-proxy.container" . }}
restartPolicy: Always
ports:
  - {name: imds-metrics, containerPort: {{ .Values.metrics.port | int }}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
startupProbe:
  httpGet: {path: /readyz, port: imds-metrics, scheme: {{ include "imds-proxy.scheme" . }}}
  periodSeconds: 1
  timeoutSeconds: 5
  # An hour: a daemon that is started again has no credentials either while AWS is away, and the kubelet would wait
  # longer each time.
  failureThreshold: 3600
livenessProbe:
  httpGet: {path: /healthz, port: imds-metrics, scheme: {{ include "imds-proxy.scheme" . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
# No readinessProbe: whether the pod gets traffic is the application's to say.
resources:
  {{- toYaml .Values.sidecar.resources | nindent 2 }}
{{- end -}}

{{/* What leads the application's SDK to it. The final slash: AWS CLI v2 before 2.28.3 needs it. */}}
{{- define "imds-proxy.sidecarEnv" -}}
- name: AWS_EC2_METADATA_SERVICE_ENDPOINT
  value: {{ printf "http://127.0.0.1:%d/" (int .Values.sidecar.port) }}
{{- end -}}
