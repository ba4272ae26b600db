{{/* Names, labels, the image: what every object is made with. */}}

{{- define "ws2mqtt.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/*
At most 52 signs: a pod's label holds the StatefulSet's name and a hash of 11 behind it, 63 in all. A release may have dots
in its name, a Service may not.
*/}}
{{- define "ws2mqtt.fullname" -}}
{{- $name := include "ws2mqtt.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $both | replace "." "-" | trunc 52 | trimAll "-" -}}
{{- end }}

{{- define "ws2mqtt.serviceAccount" -}}
{{- $own := ternary (include "ws2mqtt.fullname" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $own -}}
{{- end }}

{{- define "ws2mqtt.selector" -}}
app.kubernetes.io/name: {{ include "ws2mqtt.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "ws2mqtt.labels" -}}
{{- $own := dict
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- merge (include "ws2mqtt.selector" . | fromYaml) $own (.Values.commonLabels | default dict) | toYaml -}}
{{- end }}

{{/* Metadata of an object. root, name; labels and annotations of this object alone. */}}
{{- define "ws2mqtt.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- merge (include "ws2mqtt.labels" .root | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* registry/repository:tag, or @digest. */}}
{{- define "ws2mqtt.image" -}}
{{- $registry := (.Values.global).imageRegistry | default .Values.image.registry -}}
{{- $version := printf ":%s" (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest }}{{ $version = printf "@%s" . }}{{ end -}}
{{- with $registry }}{{ . | trimSuffix "/" }}/{{ end }}{{ .Values.image.repository }}{{ $version }}
{{- end }}

{{/* imagePullSecrets of a pod; names and {name: ...} are both taken. */}}
{{- define "ws2mqtt.pullSecrets" -}}
{{- $everywhere := (.Values.global).imagePullSecrets | default list -}}
{{- with .Values.imagePullSecrets | default list | concat $everywhere -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name | quote }}{{ else }}{{ . | quote }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}
