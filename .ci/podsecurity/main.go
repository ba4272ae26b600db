// Judges every pod in the YAML files given, by the code with which the API server enforces the Pod Security Standards.
package main

import (
	"fmt"
	"os"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// The pod in an object, nil where there is none.
func podOf(kind string, text []byte) *corev1.PodTemplateSpec {
	switch kind {
	case "StatefulSet", "Deployment":
		var one appsv1.StatefulSet // a Deployment has its template in the same place
		exitIf(yaml.Unmarshal(text, &one))
		return &one.Spec.Template
	case "Pod":
		var one corev1.Pod
		exitIf(yaml.Unmarshal(text, &one))
		return &corev1.PodTemplateSpec{ObjectMeta: one.ObjectMeta, Spec: one.Spec}
	}
	return nil
}

func main() {
	judge, err := policy.NewEvaluator(policy.DefaultChecks())
	exitIf(err)
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	pods, findings := 0, 0
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		exitIf(err)
		for _, object := range strings.Split(string(text), "\n---\n") {
			var told struct{ Kind string }
			exitIf(yaml.Unmarshal([]byte(object), &told))
			pod := podOf(told.Kind, []byte(object))
			if pod == nil {
				continue
			}
			pods++
			for _, result := range judge.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
				if !result.Allowed {
					findings++
					fmt.Printf("%s: %s: %s: %s\n", file, told.Kind, result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
		}
	}
	fmt.Printf("%d pods, %d findings\n", pods, findings)
	if findings > 0 || pods == 0 {
		os.Exit(1)
	}
}

func exitIf(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
