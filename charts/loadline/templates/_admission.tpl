{{- define "loadline.admission.service" -}}
{{- printf "%s-webhooks" (include "loadline.fullname" .) -}}
{{- end -}}

{{- define "loadline.admission.secret" -}}
{{- printf "%s-webhook-certificate" (include "loadline.fullname" .) -}}
{{- end -}}

{{- define "loadline.admission.mounted" -}}
{{- and .Values.admission.enabled (eq .Values.admission.certificates.source "cert-manager") -}}
{{- end -}}

{{- /* The names by which the API server calls the webhooks. */ -}}
{{- define "loadline.admission.names" -}}
{{- $service := printf "%s.%s.svc" (include "loadline.admission.service" .) .Release.Namespace -}}
{{- $names := list $service -}}
{{- with .Values.admission.url -}}
{{- $names = append $names (urlParse .).hostname -}}
{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{- define "loadline.admission.args" -}}
{{- if .Values.admission.enabled -}}
- --admission-address=0.0.0.0:9443
- --admission-mode={{ .Values.admission.mode }}
- --admission-drain={{ .Values.admission.drain }}
{{- if eq .Values.admission.certificates.source "own" }}
- --admission-secret={{ .Release.Namespace }}/{{ include "loadline.admission.secret" . }}
- --admission-certificate-lifetime={{ .Values.admission.certificates.lifetime }}
- --admission-configuration={{ include "loadline.fullname" . }}
{{- range include "loadline.admission.names" . | fromYamlArray }}
- --admission-name={{ . }}
{{- end }}
{{- else }}
- --admission-certificates=/etc/loadline/webhook
{{- end }}
{{- end -}}
{{- end -}}

{{- /* Where the API server finds a webhook: the context and a path. */ -}}
{{- define "loadline.admission.client" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.admission.url -}}
url: {{ printf "%s%s" $root.Values.admission.url (index . 1) }}
{{- else -}}
service:
  name: {{ include "loadline.admission.service" $root }}
  namespace: {{ $root.Release.Namespace }}
  path: {{ index . 1 }}
  port: 443
{{- end -}}
{{- end -}}
