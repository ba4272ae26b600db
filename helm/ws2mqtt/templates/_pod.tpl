{{/* The pod, the same for one replica and for two. volume: of the outbox; empty: the claim of the StatefulSet. */}}
{{- define "ws2mqtt.pod" -}}
{{- $root := .root -}}
{{- with $root.Values -}}
metadata:
  labels:
    {{- $labels := merge (dict) (.podLabels | default dict) (.commonLabels | default dict) }}
    {{- merge (include "ws2mqtt.selector" $root | fromYaml) $labels | toYaml | nindent 4 }}
  annotations:
    checksum/config: {{ toYaml .config | sha256sum }}
    checksum/secrets: {{ toYaml .secrets | sha256sum }}
    {{- with merge (dict) (.podAnnotations | default dict) (.commonAnnotations | default dict) }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "ws2mqtt.serviceAccount" $root | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "ws2mqtt.grace" $root }}
  {{- with include "ws2mqtt.pullSecrets" $root }}
  {{- . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- toYaml .podSecurityContext | nindent 4 }}
  {{- with .extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: ws2mqtt
      {{- include "ws2mqtt.container" $root | nindent 6 }}
    {{- with .extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "ws2mqtt.volumes" $root | nindent 4 }}
    {{- with $.volume }}
    - name: outbox
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with include "ws2mqtt.placement" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "ws2mqtt.container" -}}
{{- with .Values -}}
image: {{ include "ws2mqtt.image" $ | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
args:
  - run
  - -c
  - /etc/ws2mqtt/ws2mqtt.yaml
  {{- if .ha.enabled }}
  - --lease={{ $.Release.Namespace }}/{{ include "ws2mqtt.fullname" $ }}
  - --lease-credentials=/run/lease
  {{- end }}
  {{- with .extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "ws2mqtt.port" $ }}
ports:
  - name: http
    containerPort: {{ . }}
{{- $asked := dict "startupProbe" "/livez" "livenessProbe" "/livez" "readinessProbe" "/readyz" }}
{{- range $probe, $path := $asked }}
{{- with get $.Values $probe }}
{{ $probe }}:
  httpGet: {path: {{ $path }}, port: http}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- toYaml .securityContext | nindent 2 }}
volumeMounts:
  {{- include "ws2mqtt.mounts" $ | nindent 2 }}
  {{- with .extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "ws2mqtt.mounts" -}}
- {name: config, mountPath: /etc/ws2mqtt, readOnly: true}
- {name: outbox, mountPath: /var/lib/ws2mqtt}
- {name: tmp, mountPath: /tmp}
{{- if include "ws2mqtt.secretSources" . }}
- {name: secrets, mountPath: /run/secrets, readOnly: true}
{{- end }}
{{- if .Values.certificates }}
- {name: certificates, mountPath: /run/certificates, readOnly: true}
{{- end }}
{{- if .Values.ha.enabled }}
- {name: lease, mountPath: /run/lease, readOnly: true}
{{- end }}
{{- end }}

{{/* All but the outbox. Files are for the group alone, which fsGroup gives them. */}}
{{- define "ws2mqtt.volumes" -}}
- name: config
  {{- if eq (include "ws2mqtt.configKind" .) "Secret" }}
  secret: {secretName: {{ include "ws2mqtt.configName" . | quote }}, defaultMode: 0440}
  {{- else }}
  configMap: {name: {{ include "ws2mqtt.configName" . | quote }}, defaultMode: 0440}
  {{- end }}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.tmpSize }}}
{{- with include "ws2mqtt.secretSources" . }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- with .Values.certificates }}
- name: certificates
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - {{ hasKey . "secret" | ternary "secret" "configMap" }}:
          name: {{ .secret | default .configMap | quote }}
          {{- with .items }}
          items:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- end }}
{{- end }}
{{- if .Values.ha.enabled }}
{{- /* Of the container alone; and not below /run/secrets, a volume into which nothing else can be mounted. */}}
- name: lease
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}

{{- define "ws2mqtt.placement" -}}
{{- $selector := dict "matchLabels" (include "ws2mqtt.selector" . | fromYaml) -}}
{{- $apart := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- $spread := .Values.topologySpreadConstraints -}}
{{- if and .Values.ha.enabled (not $spread) }}{{ $spread = list $apart }}{{ end -}}
{{- with $spread }}
topologySpreadConstraints:
  {{- range . }}
  {{- $whose := dict "labelSelector" (.labelSelector | default $selector) }}
  - {{ mergeOverwrite (deepCopy .) $whose | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{ include "ws2mqtt.nodes" . | trim }}
{{- end }}

{{/* Which nodes: also of the test's pod. */}}
{{- define "ws2mqtt.nodes" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
