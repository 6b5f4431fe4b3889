{{- define "alphareel.labels" -}}
app.kubernetes.io/name: alphareel
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "alphareel.selector" -}}
app.kubernetes.io/name: alphareel
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "alphareel.env" -}}
- {name: ALPHAREEL_STORAGE_URL, value: {{ .Values.storageUrl | quote }}}
- {name: ALPHAREEL_PUBLIC_URL, value: {{ .Values.publicUrl | quote }}}
- {name: ALPHAREEL_TRUSTED_PROXIES, value: {{ .Values.trustedProxies | quote }}}
- {name: TMPDIR, value: /data}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "alphareel.pod" -}}
automountServiceAccountToken: false
{{- /* Else Kubernetes sets variables for each service, and one named "alphareel" would set ALPHAREEL_PORT. */}}
enableServiceLinks: false
terminationGracePeriodSeconds: 60
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "alphareel.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - secretRef: {name: {{ .Values.existingSecret }}}
{{- end }}
