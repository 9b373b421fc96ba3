{{- define "loadline.admission.service" -}}
{{- include "loadline.suffixed" (list . "-webhooks") -}}
{{- end -}}

{{- define "loadline.admission.secret" -}}
{{- include "loadline.suffixed" (list . "-webhook-certificate") -}}
{{- end -}}

{{- define "loadline.admission.mounted" -}}
{{- and .Values.admission.enabled (ne .Values.admission.certificates.source "own") -}}
{{- end -}}

{{- /* The Secret that is mounted: one that is there already, or cert-manager's. */ -}}
{{- define "loadline.admission.mountedSecret" -}}
{{- if eq .Values.admission.certificates.source "existing" -}}
{{- .Values.admission.certificates.secretName -}}
{{- else -}}
{{- include "loadline.admission.secret" . -}}
{{- end -}}
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
{{- if eq (include "loadline.pods.give" .) "webhook" }}
- --admission-pods
{{- end }}
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
{{- if eq $root.Values.admission.certificates.source "existing" }}
caBundle: {{ $root.Values.admission.certificates.caBundle }}
{{- end -}}
{{- end -}}

{{- /* The version of the API by which the API server itself changes pods; empty where it cannot. */ -}}
{{- define "loadline.pods.version" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}v1
{{- else if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy" -}}v1beta1
{{- end -}}
{{- end -}}

{{- /* Who gives pods that name an object what it needs: policy, webhook or none. */ -}}
{{- define "loadline.pods.give" -}}
{{- $can := include "loadline.pods.version" . -}}
{{- if not .Values.admission.enabled -}}none
{{- else if eq .Values.admission.pods.give "auto" -}}
{{- ternary "policy" "webhook" (ne $can "") -}}
{{- else if and (eq .Values.admission.pods.give "policy") (eq $can "") -}}
{{- fail "admission.pods.give is policy, and this API server has no MutatingAdmissionPolicy: set auto, webhook or none" -}}
{{- else -}}
{{- .Values.admission.pods.give -}}
{{- end -}}
{{- end -}}

{{- /* What both policies of pods look at. What is not known of an object is required of nobody. */ -}}
{{- define "loadline.pods.variables" -}}
- name: name
  expression: object.metadata.?labels[?'loadline.dev/model-deployment'].orValue('')
- name: known
  expression: variables.name in params.spec.models
- name: required
  expression: params.spec.models[variables.name]
- name: terms
  expression: >-
    has(object.spec.affinity) && has(object.spec.affinity.nodeAffinity) &&
    has(object.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution)
    ? object.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms : []
# Whether each term of the pod demands at least what one of the terms of what is required does, of every label.
- name: placed
  expression: >-
    variables.known && size(variables.terms) > 0 && variables.terms.all(term, has(term.matchExpressions) &&
    ([variables.required.terms] + variables.required.?earlier.orValue([])).exists(terms, terms.exists(own, own.all(at,
    [params.spec.expressions[at]].exists(wanted, term.matchExpressions.exists(found, found.key == wanted.key && found.operator == wanted.operator &&
    (wanted.operator == 'Gt' ? found.values[0].matches('^[0-9]{1,18}$') && int(found.values[0]) >= int(wanted.values[0]) :
    wanted.operator == 'Lt' ? found.values[0].matches('^[0-9]{1,18}$') && int(found.values[0]) <= int(wanted.values[0]) :
    wanted.operator == 'In' ? found.values.all(value, value in wanted.values) :
    wanted.operator == 'NotIn' ? wanted.values.all(value, value in found.values) : true)))))))
- name: requested
  expression: >-
    !variables.known ? 0 : object.spec.containers.map(one, has(one.resources) && has(one.resources.limits) && variables.required.resource in one.resources.limits ?
    int(string(one.resources.limits[variables.required.resource])) : 0).sum()
{{- end -}}
