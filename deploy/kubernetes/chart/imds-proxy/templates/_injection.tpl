{{/* Injection: what the webhook and the policy share. Names and limits are those of imds_proxy/webhook/. */}}
{{- define "imds-proxy.webhookName" -}}
{{- printf "%s-webhook" (include "imds-proxy.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{/* Not the labels of the daemon's pods: a DaemonSet or PodMonitor that selects those does not select these. */}}
{{- define "imds-proxy.webhookSelectorLabels" -}}
app.kubernetes.io/name: {{ include "imds-proxy.name" . | trunc 55 | trimSuffix "-" }}-webhook
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "imds-proxy.webhookLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "imds-proxy.webhookSelectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "imds-proxy.webhookSecret" -}}
{{- default (printf "%s-tls" (include "imds-proxy.webhookName" .)) .Values.webhook.tls.secretName -}}
{{- end -}}

{{/* Which pods are looked at, for the webhook and for the policy. */}}
{{- define "imds-proxy.injectionMatch" -}}
namespaceSelector:
  {{- if .Values.webhook.namespaceSelector }}
  {{- toYaml .Values.webhook.namespaceSelector | nindent 2 }}
  {{- else }}
  matchExpressions:
    - {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system, {{ .Release.Namespace | quote }}]}
  {{- end }}
objectSelector:
  matchExpressions:
    - {key: eks.amazonaws.com/skip-pod-identity-webhook, operator: DoesNotExist}
{{- end -}}

{{/* CEL conditions on a pod and the service account that is its parameter: that one is the pod's, and asks. */}}
{{- define "imds-proxy.injectionConditions" -}}
- name: is-the-account-of-the-pod
  expression: params.metadata.name == object.spec.?serviceAccountName.orValue("default")
- name: asks
  expression: params.metadata.?annotations[?"eks.amazonaws.com/role-arn"].orValue("") != ""
- name: is-for-linux
  expression: >-
    !(object.spec.?os.name.orValue("") == "windows"
    || object.spec.?nodeSelector[?"kubernetes.io/os"].orValue("") == "windows"
    || object.spec.?nodeSelector[?"beta.kubernetes.io/os"].orValue("") == "windows")
- name: is-no-mirror
  expression: '!("kubernetes.io/config.mirror" in object.metadata.?annotations.orValue({}))'
{{- end -}}

{{- define "imds-proxy.injectionVariables" -}}
- name: account
  expression: params.metadata.annotations
- name: pod
  expression: object.metadata.?annotations.orValue({})
- name: role
  expression: variables.account["eks.amazonaws.com/role-arn"]
- name: roleIsUsable
  expression: >-
    size(variables.role) <= 2048 && variables.role.matches("^[A-Za-z0-9:/+=,.@_-]+$")
    && variables.role.split("/").all(part, !(part in ["", ".", ".."]))
- name: audience
  expression: variables.account[?"eks.amazonaws.com/audience"].orValue({{ .Values.webhook.audience | toJson }})
- name: audienceIsUsable
  expression: variables.audience.matches("^[!-~]{1,253}$")
- name: expiration
  expression: >-
    variables.pod[?"eks.amazonaws.com/token-expiration"].orValue(
    variables.account[?"eks.amazonaws.com/token-expiration"].orValue("{{ .Values.webhook.expiration | int }}"))
- name: expirationIsUsable
  expression: >-
    variables.expiration.matches("^[0-9]{1,9}$") && int(variables.expiration) >= 600
    && int(variables.expiration) <= 86400
- name: skipped
  expression: variables.pod[?"eks.amazonaws.com/skip-containers"].orValue("").split(",").map(name, name.trim())
- name: own
  expression: >-
    ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN"]
{{- range list "containers" "initContainers" }}
# Places in the list of those that get something: not skipped, without arrangements of their own.
- name: {{ . }}
  expression: >-
    object.spec.?{{ . }}.orValue([]).transformList(i, c,
    !(c.name in variables.skipped) && !c.?env.orValue([]).exists(e, e.name in variables.own), i)
{{- end }}
{{- end -}}
