{{/* Whether the API server judges the authors of specs: ValidatingAdmissionPolicy is in every Kubernetes from 1.30 on. */}}
{{- define "loadline.authorsAreJudged" -}}
{{- if and .Values.tenants.policy.enabled (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) -}}
true
{{- end -}}
{{- end -}}

{{/* The controller's arguments of what specs may ask for. What is "auto" is off where nobody judges the authors. */}}
{{- define "loadline.tenantArguments" -}}
{{- $judged := include "loadline.authorsAreJudged" . -}}
{{- $refused := list -}}
{{- range $part, $value := dict "template" .Values.tenants.allow.template "service-account" .Values.tenants.allow.serviceAccount "image" .Values.tenants.allow.image "args" .Values.tenants.allow.args "token-secret" .Values.tenants.allow.tokenSecretRef "config-map" .Values.tenants.allow.configMapRef "gguf-url" .Values.tenants.allow.ggufUrl -}}
{{- if or (eq (toString $value) "false") (and (eq (toString $value) "auto") (not $judged)) -}}
{{- $refused = append $refused $part -}}
{{- end -}}
{{- end -}}
{{- with $refused }}
- --refuse={{ join "," . }}
{{- end }}
{{- with .Values.tenants.registries }}
- --allowed-registries={{ join "," . }}
{{- end }}
{{- with .Values.tenants.hosts }}
- --allowed-hosts={{ join "," . }}
{{- end }}
{{- with .Values.tenants.schedulers }}
- --allowed-schedulers={{ join "," . }}
{{- end }}
{{- with .Values.tenants.priorityClasses }}
- --allowed-priority-classes={{ join "," . }}
{{- end }}
{{- if .Values.tenants.hostNamespaces }}
- --allow-host-namespaces
{{- end }}
{{- end -}}
