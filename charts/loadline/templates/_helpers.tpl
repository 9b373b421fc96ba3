{{- define "loadline.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Services and label values have at most 63 characters, and no dots. */ -}}
{{- define "loadline.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "loadline.name" .) .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | replace "." "-") (include "loadline.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The full name and a suffix, which stays whole: the context and the suffix. */ -}}
{{- define "loadline.suffixed" -}}
{{- $suffix := index . 1 -}}
{{- printf "%s%s" (include "loadline.fullname" (index . 0) | trunc (int (sub 63 (len $suffix))) | trimSuffix "-") $suffix -}}
{{- end -}}

{{- define "loadline.selectorLabels" -}}
app.kubernetes.io/name: {{ include "loadline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The labels of what is not the controller's own: the context, and what it is called. Sorted, each key once. */ -}}
{{- define "loadline.labelsOf" -}}
{{- $root := index . 0 -}}
{{- $own := dict
  "app.kubernetes.io/name" (index . 1)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- toYaml (merge $own (default dict $root.Values.commonLabels)) -}}
{{- end -}}

{{- define "loadline.labels" -}}
{{- include "loadline.labelsOf" (list . (include "loadline.name" .)) -}}
{{- end -}}

{{- define "loadline.podLabels" -}}
{{- toYaml (merge (deepCopy (default dict .Values.podLabels)) (include "loadline.labels" . | fromYaml)) -}}
{{- end -}}

{{- define "loadline.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "loadline.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* A registry of the whole installation goes before the image's own. */ -}}
{{- define "loadline.registry" -}}
{{- $global := default dict .Values.global -}}
{{- $registry := default .Values.image.registry $global.imageRegistry -}}
{{- with $registry }}{{ printf "%s/" (trimSuffix "/" .) }}{{ end -}}
{{- end -}}

{{- define "loadline.image" -}}
{{- $name := printf "%s%s" (include "loadline.registry" .) .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "loadline.env" -}}
{{- $own := dict -}}
{{- range .Values.extraEnv -}}{{- $_ := set $own .name true -}}{{- end -}}
{{- if not (hasKey $own "LOADLINE_LOG") }}
- name: LOADLINE_LOG
  value: {{ .Values.controller.logLevel | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What a schema cannot say in words. */ -}}
{{- define "loadline.validate" -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- range $values := list "commonLabels" "podLabels" -}}
{{- range $key, $_ := index $.Values $values -}}
{{- if has $key $own -}}
{{- fail (printf "%s: the chart sets the label %s itself, and selects pods by it: leave it out" $values $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "extraEnv: %s is set twice: leave one of the two out" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" (include "loadline.fullname" .)) -}}
{{- fail (printf "the name of a Service begins with a letter, and %s does not: set fullnameOverride" (include "loadline.fullname" .)) -}}
{{- end -}}
{{- if and .Values.admission.enabled (eq .Values.admission.certificates.source "existing") -}}
{{- if not .Values.admission.certificates.secretName -}}
{{- fail "admission.certificates.secretName: with source existing, name the Secret with tls.crt and tls.key" -}}
{{- end -}}
{{- if not .Values.admission.certificates.caBundle -}}
{{- fail "admission.certificates.caBundle: with source existing, give the authorities' certificates that the API server is to trust, PEM in base64" -}}
{{- end -}}
{{- end -}}
{{- end -}}
