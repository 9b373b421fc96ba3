//! `plan -f DIR`: a directory as people have them, with the files of other tools beside the objects.

use std::path::Path;

use super::{Run, run};

const OBJECT: &str = "apiVersion: loadline.dev/v1alpha1
kind: ModelDeployment
metadata: {name: good}
spec: {model: {parameters: 8B}, precision: int4, context: {length: 8192}, engine: {name: none}}
";

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (path, content) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }
    directory
}

fn planned(path: &Path, more: &str) -> Run {
    run(&format!("plan -f {} --snapshot examples/cluster.snapshot {more}", path.display()))
}

#[test]
fn what_is_no_object_is_passed_over_with_a_note() {
    let directory = directory(&[
        ("good.yaml", OBJECT),
        ("Chart.yaml", "apiVersion: v2\nname: models\nversion: 0.1.0\n"),
        ("values.yaml", "replicas: 2\nimage: {tag: latest}\n"),
        ("kustomization.yaml", "resources: [good.yaml]\n"),
        ("package.json", "{\"name\": \"site\", \"version\": \"1.0.0\"}"),
        ("list.json", "[1, 2, 3]"),
        ("word.json", "\"word\""),
        ("tsconfig.json", "{\n  // comments are not JSON\n  \"strict\": true,\n}\n"),
        ("empty.yaml", "# nothing\n"),
        ("templates/a.yaml", "{{- if .Values.enabled }}\nkind: ModelDeployment\n{{- end }}\n"),
        ("templates/b.yaml", &OBJECT.replace("good", "{{ .Release.Name }}")),
        ("templates/c.yaml", &OBJECT.replace("int4", "\"{{ .Values.precision }}\"")),
    ]);
    let run = planned(directory.path(), "-R");
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.starts_with("default/good: fits"), "{}", run.stdout);
    assert_eq!(run.stdout.matches("default/").count(), 1, "{}", run.stdout);
    for text in [
        "passed over what has no kind: ",
        "Chart.yaml",
        "and 3 more",
        "{{ … }}",
        "a.yaml",
        "b.yaml",
        "c.yaml",
    ] {
        assert!(run.stderr.contains(text), "no {text} in\n{}", run.stderr);
    }
    assert_eq!(run.stderr.lines().count(), 2, "{}", run.stderr);
}

#[test]
fn a_file_that_is_named_itself_and_holds_no_object_is_an_error_that_names_it() {
    let directory = directory(&[
        ("values.yaml", "replicas: 2\n"),
        ("list.json", "[1, 2, 3]"),
        ("template.yaml", &OBJECT.replace("good", "{{ .Release.Name }}")),
        ("empty.yaml", "# nothing\n"),
        ("service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"),
    ]);
    for (name, expected) in [
        ("values.yaml", "values.yaml:1: has no kind; expected apiVersion: loadline.dev/v1alpha1"),
        ("list.json", "list.json:1: has no kind"),
        ("template.yaml", "template.yaml:1: is a template"),
        ("empty.yaml", "no ModelDeployment in "),
        ("service.yaml", "no ModelDeployment in "),
    ] {
        let path = directory.path().join(name);
        let run = planned(&path, "");
        assert_eq!(run.code, 1, "{name}: {}{}", run.stdout, run.stderr);
        let told = format!("{}{}", run.stdout, run.stderr);
        assert!(told.contains(expected) && told.contains(name), "{name}: no {expected} in\n{told}");
        // Nor does anybody need a cluster to be told.
        let without = super::run(&format!("plan -f {}", path.display()));
        assert_eq!(without.code, 1);
        assert!(!without.stderr.contains("no cluster"), "{name}: {}", without.stderr);
    }
}

#[test]
fn one_wrong_file_is_named_with_its_line_and_hides_no_other() {
    let mistyped = OBJECT.replace("good", "mistyped").replace("precision", "precison");
    let refused = OBJECT.replace("good", "refused").replace("8B}", "8B}, parallelism: {tensor: 3}");
    let directory = directory(&[
        ("a-broken.yaml", "a: 1\nb: [1\nc: 2\n"),
        ("b-good.yaml", OBJECT),
        ("c-mistyped.yaml", &format!("# comment\n---\n{mistyped}")),
        ("d-refused.yaml", &refused),
        ("e-version.yaml", &OBJECT.replace("v1alpha1", "v1").replace("good", "version")),
        ("f-no-kind.yaml", &OBJECT.replace("kind: ModelDeployment\n", "")),
    ]);
    std::fs::write(directory.path().join("g-latin1.yaml"), b"name: \xe4\n").expect("a file");
    let run = planned(directory.path(), "");
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    for text in [
        "a-broken.yaml:1: cannot be read: ",
        "line 3",
        "default/good: fits",
        "c-mistyped.yaml:3: spec.precison: unknown field",
        "d-refused.yaml:1: spec.parallelism.tensor: ",
        "e-version.yaml:1: apiVersion: \"loadline.dev/v1\" is not known",
        "f-no-kind.yaml:1: has no kind",
        "g-latin1.yaml:1: is not UTF-8 text",
    ] {
        assert!(run.stdout.contains(text), "no {text} in\n{}", run.stdout);
    }
    let json = planned(directory.path(), "-o json");
    let document: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let results = document["results"].as_array().expect("results");
    assert_eq!(results.len(), 7);
    for (result, name) in results.iter().zip(["a-", "b-", "c-", "d-", "e-", "f-", "g-"]) {
        let file = result["file"].as_str().expect("a file");
        assert!(file.rsplit('/').next().expect("a name").starts_with(name), "{file}");
    }
}
