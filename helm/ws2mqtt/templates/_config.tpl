{{/* What the chart has to know of the configuration; all else in it passes through untouched. */}}

{{/* The file: config, and the release's name as the client id, since two that have the same one throw each other out. */}}
{{- define "ws2mqtt.config" -}}
{{- $own := dict "mqtt" (dict "client_id" (include "ws2mqtt.fullname" .)) -}}
{{- merge (deepCopy .Values.config) $own | toYaml -}}
{{- end }}

{{/* The port of http.listen; empty where it is off. */}}
{{- define "ws2mqtt.port" -}}
{{- .Values.config.http.listen | toString | regexFind "[0-9]+$" -}}
{{- end }}

{{/* shutdown_grace in whole seconds, and ten for what comes after it. */}}
{{- define "ws2mqtt.grace" -}}
{{- $text := .Values.config.shutdown_grace | default "20s" | trim -}}
{{- $seconds := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $seconds (regexFind "[a-z]+$" $text)) | ceil | int64 | add 10 -}}
{{- end }}

{{/*
Names of the secrets that stand in the configuration themselves, neither as ${NAME} nor in a file. A default of such a
name, or a token beside one, is a secret as well.
*/}}
{{- define "ws2mqtt.literals" -}}
{{- $found := list -}}
{{- with (.Values.config.mqtt).password }}{{ $found = append $found (list "mqtt.password" .) }}{{ end -}}
{{- range $name, $backend := .Values.config.backends | default dict -}}
  {{- range list "password" "proxy" (ternary "url" "" (toString $backend.type | regexMatch "^resiot$|[$]")) -}}
    {{- with get $backend . | toString | replace "<nil>" "" }}{{ $found = append $found (list $name .) }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- range $found -}}
  {{- $text := last . | toString | replace "$${" "" -}}
  {{- $beside := regexMatch "[$][{][^}]*:-[^}]|(?i)token=[^$&]" $text -}}
  {{- if or $beside (not (contains "${" $text)) }}{{ first . }} {{ end -}}
{{- end -}}
{{- end }}

{{/* Of the object that holds the file; the bare name may be that of a Secret which is there already. */}}
{{- define "ws2mqtt.configName" -}}
{{- include "ws2mqtt.fullname" . }}-config
{{- end }}

{{/* ConfigMap, or Secret where the configuration holds a secret itself. */}}
{{- define "ws2mqtt.configKind" -}}
{{- include "ws2mqtt.literals" . | empty | ternary "ConfigMap" "Secret" -}}
{{- end }}

{{/* Sources of the files below /run/secrets. */}}
{{- define "ws2mqtt.secretSources" -}}
{{- range kindIs "slice" .Values.existingSecret | ternary .Values.existingSecret (list .Values.existingSecret) -}}
  {{- if kindIs "map" . }}
- secret: {{ toYaml . | nindent 4 }}
  {{- else if . }}
- secret:
    name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- if .Values.secrets }}
- secret:
    name: {{ include "ws2mqtt.fullname" . }}-files
{{- end }}
{{- end }}
