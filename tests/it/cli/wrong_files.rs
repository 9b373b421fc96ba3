//! A file that is not what its flag wants is called what it is, with the flag that is right for it.

use super::run;
use crate::weights::{Meta, llama_gguf, safetensors};

const CONFIG: &str = r#"{"model_type":"llama","hidden_size":512,"intermediate_size":2048,"num_hidden_layers":1,
    "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":1000,"max_position_embeddings":4096,
    "tie_word_embeddings":true,"torch_dtype":"bfloat16"}"#;
const POINTER: &str = "version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 16060522496
";

#[test]
fn each_flag_says_what_it_wants_and_what_it_got() {
    let tensors = safetensors(&[("model.layers.0.self_attn.k_proj.weight", "BF16", &[8, 8])]);
    let gguf = llama_gguf(1, 10).bytes();
    let part = llama_gguf(1, 10).meta("split.no", &Meta::U32(1)).meta("split.count", &Meta::U32(2)).bytes();
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in [
        ("config.json", CONFIG.as_bytes()),
        ("m.gguf", &gguf),
        ("m.safetensors", &tensors),
        ("header.json", tensors.get(8..).expect("longer")),
        ("model.safetensors.index.json", br#"{"weight_map":{"a":"m.safetensors"}}"#),
        ("empty", b""),
        ("page.html", b"<!DOCTYPE html><html><body>Sign in</body></html>"),
        ("pointer.gguf", POINTER.as_bytes()),
        ("pytorch_model.bin", b"\x80\x02}q"),
        ("zip.pt", b"PK\x03\x04archive/data.pkl"),
        ("binary", b"\xff\xfe\0\x01"),
        ("text", b"hello"),
        ("other.json", b"{\"a\": 1}"),
        ("cut.gguf", gguf.get(..100).expect("longer")),
        ("x-00002-of-00002.gguf", &part),
        ("pickles/pytorch_model.bin", b"x"),
        ("configs/config.json", CONFIG.as_bytes()),
        ("weights/m.gguf", &gguf),
    ] {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("created");
        std::fs::write(path, content).expect("written");
    }
    let base = directory.path().display().to_string();
    for (flag, name, expected) in [
        ("--gguf", "config.json", &["it is a config.json, and --gguf takes a GGUF file", "--config "][..]),
        ("--gguf", "m.safetensors", &["it is a safetensors file", "--safetensors "]),
        ("--gguf", "empty", &["it is an empty file", "download it again"]),
        ("--gguf", "page.html", &["it is a web page", "--gguf takes a GGUF file", "gated"]),
        ("--gguf", "pointer.gguf", &["Git LFS pointer", "16060522496 bytes", "git lfs pull"]),
        ("--gguf", "pytorch_model.bin", &["PyTorch", "--gguf takes a GGUF file"]),
        ("--gguf", "binary", &["a binary file"]),
        ("--gguf", "cut.gguf", &["cut off"]),
        (
            "--gguf",
            "x-00002-of-00002.gguf",
            &["one of the 2 files", "x-00001-of-00002.gguf is not beside it"],
        ),
        ("--gguf", "configs", &["a directory with a config.json", "--gguf takes a GGUF file", "--file "]),
        ("--gguf", "nowhere", &["nowhere", "No such file"]),
        (
            "--safetensors",
            "m.gguf",
            &["it is a GGUF file, and --safetensors takes a safetensors file", "--gguf "],
        ),
        ("--safetensors", "config.json", &["it is a config.json", "--config "]),
        ("--safetensors", "header.json", &["the JSON of a safetensors header", "--file "]),
        ("--safetensors", "other.json", &["JSON that does not name a model type"]),
        ("--safetensors", "text", &["text that is not JSON"]),
        ("--safetensors", "pointer.gguf", &["Git LFS pointer", "16060522496 bytes"]),
        ("--safetensors", "zip.pt", &["PyTorch", "config.json"]),
        ("--safetensors", "configs", &["a directory with a config.json"]),
        ("--safetensors", "weights", &["a directory with a GGUF file", "--gguf "]),
        ("--safetensors", "pickles", &["PyTorch", "pytorch_model.bin"]),
        ("--config", "m.gguf", &["it is a GGUF file, and --config takes a config.json", "--gguf "]),
        ("--config", "m.safetensors", &["it is a safetensors file", "--safetensors "]),
        ("--config", "model.safetensors.index.json", &["the index of", "--safetensors "]),
        ("--config", "configs", &["it is a directory", "configs/config.json"]),
        ("--config", "empty", &["it is an empty file"]),
        ("--config", "page.html", &["it is a web page"]),
        ("--config", "pointer.gguf", &["Git LFS pointer"]),
        ("--config", "binary", &["a binary file"]),
        ("--config", "text", &["text that is not JSON"]),
        ("--config", "other.json", &["model_type", "is missing"]),
        ("--file", "page.html", &["it is a web page"]),
        ("--file", "pointer.gguf", &["Git LFS pointer", "16060522496 bytes"]),
        ("--file", "empty", &["it is an empty file"]),
        ("--file", "text", &["neither a config.json"]),
    ] {
        let run = run(&format!("estimate {flag} {base}/{name}"));
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{flag} {name}: {}", run.stderr);
        let words = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in expected {
            assert!(words.contains(text), "{flag} {name}: no {text:?} in\n{}", run.stderr);
        }
        assert!(!words.contains("ConfigMap"), "{flag} {name}: {words}");
    }
    for (flag, name) in [
        ("--gguf", "m.gguf"),
        ("--gguf", "weights"),
        ("--safetensors", "m.safetensors"),
        ("--safetensors", "model.safetensors.index.json"),
        ("--config", "config.json"),
        ("--file", "header.json"),
        ("--file", "configs"),
    ] {
        let run = run(&format!("estimate {flag} {base}/{name}"));
        assert_eq!(run.code, 0, "{flag} {name}: {}", run.stderr);
    }
}

#[test]
fn a_size_that_is_not_the_configs_is_named_with_the_configs() {
    let (_directory, path) = super::file("config.json", CONFIG.replace("true,", "true,\"x\":NaN,"));
    let run = run(&format!("estimate --config {path} --parameters 70B"));
    assert_eq!(run.code, 1, "{}", run.stderr);
    for text in ["--parameters", "70B", "4.45M", &path] {
        assert!(run.stderr.contains(text), "no {text:?} in\n{}", run.stderr);
    }
}
