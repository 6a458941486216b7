{{- define "persistor.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "persistor.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "persistor.labels" -}}
{{ include "persistor.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- /* All that the pods of a part share; takes root, part, values and args, and port and health of what listens. */ -}}
{{- define "persistor.pod" -}}
metadata:
  labels:
    {{- include "persistor.labels" . | nindent 4 }}
    {{- with .values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/settings: {{ toYaml .values.settings | sha256sum }}
    {{- with .values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "persistor.name" .root }}-{{ .part }}
  automountServiceAccountToken: {{ .root.Values.serviceAccount.automountToken }}
  enableServiceLinks: false
  # A call to the store that is under way is waited for, two minutes at most, then acknowledged.
  terminationGracePeriodSeconds: 180
  {{- if not .port }}
  restartPolicy: Never
  {{- end }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- if .port }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "persistor.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .part }}
      image: {{ printf "%s:%s" .root.Values.image.repository (.root.Values.image.tag | default .root.Chart.AppVersion) }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{- toYaml .args | nindent 8 }}
      env:
        {{- if has .part (list "persist" "index") }}
        - name: SHARD
          valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}
        {{- end }}
        - {name: TMPDIR, value: /tmp}
        {{- with .values.env }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- if .port }}
      ports:
        - {name: http, containerPort: {{ .port }}}
      # Reading the lake's claims at the start can take a while; nothing else waits for it.
      startupProbe:
        httpGet: {path: {{ .health }}, port: http}
        periodSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: {{ .health }}, port: http}
        periodSeconds: 20
        timeoutSeconds: 10
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: {{ .ready | default .health }}, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
      {{- end }}
      {{- if eq .part "api" }}
      # Requests still come until every node has heard that this pod goes.
      lifecycle: {preStop: {exec: {command: [sleep, "10"]}}}
      {{- end }}
      resources: {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: settings, mountPath: /etc/persistor, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- range .values.secrets }}
        - {name: secret-{{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true}
        {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "persistor.name" .root }}-{{ .part }}}
    - name: tmp
      emptyDir: {sizeLimit: 2Gi}
    {{- range .values.secrets }}
    - name: secret-{{ . }}
      secret: {secretName: {{ . }}, defaultMode: 288}
    {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
