//! What a container starts: the program that serves or trains a model, found in its command line.

use super::objects::has_extension;
use super::shell::{self, Variables};
use crate::engine::{Word, is_only_of, stock_of};
use crate::precision::Engine;

/// Shells within shells that are followed.
const DEEPEST: usize = 4;

/// A program that runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// An engine whose memory is estimated.
    Engine(Engine),
    /// KServe's server of Hugging Face models, whose text models vLLM serves.
    HuggingFaceServer,
    /// A training, by the framework that runs it.
    Training(&'static str),
    /// Another server of models, of whose memory nothing is known.
    Other(&'static str),
}

impl Program {
    /// Its name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine(engine) => engine.as_str(),
            Self::HuggingFaceServer => Engine::Vllm.as_str(),
            Self::Training(_) => Engine::Transformers.as_str(),
            Self::Other(name) => name,
        }
    }
}

/// A program, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) program: Program,
    pub(super) arguments: Vec<Word>,
}

/// What was found of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Started {
    /// The programs that run a model, in order.
    pub(super) starts: Vec<Start>,
    /// A script that is not in the file, if one is run.
    pub(super) script: Option<String>,
    /// The command joins ranks of other pods.
    pub(super) joins: bool,
}

/// Modules that `python -m` runs.
const MODULES: &[(&str, Program)] = &[
    ("vllm.entrypoints.openai.api_server", Program::Engine(Engine::Vllm)),
    ("vllm.entrypoints.api_server", Program::Engine(Engine::Vllm)),
    ("vllm.entrypoints.openai.run_batch", Program::Engine(Engine::Vllm)),
    ("dynamo.vllm", Program::Engine(Engine::Vllm)),
    ("sglang.launch_server", Program::Engine(Engine::Sglang)),
    ("dynamo.sglang", Program::Engine(Engine::Sglang)),
    ("huggingfaceserver", Program::HuggingFaceServer),
    ("llama_cpp.server", Program::Other("llama-cpp-python")),
    ("axolotl.cli.train", Program::Training("axolotl")),
    ("lmdeploy.serve.openai.api_server", Program::Other("lmdeploy")),
    ("dynamo.trtllm", Program::Other("tensorrt-llm")),
];

/// Programs by the name of their file, some by their first word too.
const FILES: &[(&str, Option<&str>, Program)] = &[
    ("vllm", Some("serve"), Program::Engine(Engine::Vllm)),
    ("sglang", Some("serve"), Program::Engine(Engine::Sglang)),
    ("text-generation-launcher", None, Program::Engine(Engine::Tgi)),
    ("llama-server", None, Program::Engine(Engine::LlamaCpp)),
    ("text-embeddings-router", None, Program::Other("tei")),
    ("ollama", Some("serve"), Program::Other("ollama")),
    ("ollama", Some("run"), Program::Other("ollama")),
    ("tritonserver", None, Program::Other("triton")),
    ("trtllm-serve", None, Program::Other("tensorrt-llm")),
    ("lmdeploy", Some("serve"), Program::Other("lmdeploy")),
    ("axolotl", Some("train"), Program::Training("axolotl")),
    ("llamafactory-cli", Some("train"), Program::Training("llama-factory")),
    ("tune", Some("run"), Program::Training("torchtune")),
    ("trl", Some("sft"), Program::Training("trl")),
    ("trl", Some("dpo"), Program::Training("trl")),
    ("accelerate", Some("launch"), Program::Training("accelerate")),
    ("torchrun", None, Program::Training("torchrun")),
    ("deepspeed", None, Program::Training("deepspeed")),
];

/// Images that are neither an engine's of the tables nor need a command.
const IMAGES: &[(&str, Program)] = &[
    ("ollama", Program::Other("ollama")),
    ("tritonserver", Program::Other("triton")),
    ("huggingfaceserver", Program::HuggingFaceServer),
];

/// Programs that name others and start none of them.
const BYSTANDERS: &[&str] = &[
    "echo",
    "printf",
    "pip",
    "pip3",
    "uv",
    "grep",
    "pgrep",
    "pkill",
    "killall",
    "which",
    "curl",
    "wget",
    "cat",
    "test",
    "[",
    "[[",
    "command",
    "type",
    "sed",
    "awk",
    "ls",
    "cp",
    "rm",
    "mkdir",
    "huggingface-cli",
    "hf",
    "git",
];

/// Finds what a container starts. `mounted` gives the text of a file that a ConfigMap of the same file holds.
pub(super) fn started(
    image: Option<&str>,
    command: &[Word],
    arguments: &[Word],
    variables: &Variables,
    mounted: &dyn Fn(&str) -> Option<String>,
) -> Started {
    let mut started = Started::default();
    let words: Vec<Word> = command.iter().chain(arguments).cloned().collect();
    let mut variables = variables.clone();
    line(&words, &mut variables, mounted, DEEPEST, &mut started);
    if started.starts.is_empty()
        && command.is_empty()
        && let Some(program) = image.and_then(|image| of_image(image, arguments))
    {
        started.starts.push(Start { program, arguments: arguments.to_vec() });
        started.script = None;
    }
    started
}

/// The program that an image starts by itself.
fn of_image(image: &str, arguments: &[Word]) -> Option<Program> {
    let plain = image.split('@').next().unwrap_or(image);
    let last = plain.rsplit('/').next().unwrap_or(plain);
    let (name, tag) = last.split_once(':').unwrap_or((last, ""));
    if let Some((_, program)) = IMAGES.iter().find(|(known, _)| *known == name) {
        return Some(*program);
    }
    if plain.starts_with("nvcr.io/nim/") {
        return Some(Program::Other("nim"));
    }
    let is_begun =
        arguments.first().is_none_or(|word| word.text.starts_with('-') || !word.text.contains(' '));
    match stock_of(image).filter(|_| is_begun) {
        // Its other images are a shell, or a program that serves nothing.
        Some(Engine::LlamaCpp) if name == "llama.cpp" && !tag.starts_with("server") => None,
        Some(Engine::Sglang) => None,
        Some(engine) => Some(Program::Engine(engine)),
        // An image by another name, whose arguments no other engine has.
        None if name.contains("text-generation-inference") => Some(Program::Engine(Engine::Tgi)),
        None if name.contains("text-embeddings-inference") => Some(Program::Other("tei")),
        None => {
            let is_vllm = name.starts_with("vllm") && is_only_of(Engine::Vllm, arguments);
            is_vllm.then_some(Program::Engine(Engine::Vllm))
        }
    }
}

/// Finds what one command line starts.
fn line(
    words: &[Word],
    variables: &mut Variables,
    mounted: &dyn Fn(&str) -> Option<String>,
    deeper: usize,
    started: &mut Started,
) {
    let first = words.first().map(|word| base(&word.text)).unwrap_or_default();
    if BYSTANDERS.contains(&first) {
        return;
    }
    let joins = |(at, word): (usize, &Word)| {
        let next = words.get(at + 1).map(|next| next.text.as_str());
        (base(&word.text) == "ray" && next == Some("start")) || word.text.ends_with("multi-node-serving.sh")
    };
    started.joins |= words.iter().enumerate().any(joins);
    // Whatever goes before (exec, env, numactl, a launcher of ranks), the engine's own name says it.
    let is_training = |program: &Program| matches!(program, Program::Training(_));
    let found = || (0..words.len()).filter_map(|at| program(words, at));
    let engine = found().find(|start| !is_training(&start.program)).or_else(|| found().next());
    if let Some(start) = engine {
        started.starts.push(start);
        return;
    }
    for (at, word) in words.iter().enumerate() {
        if !is_shell(&word.text) {
            continue;
        }
        shell_line(words.get(at + 1..).unwrap_or_default(), variables, mounted, deeper, started);
        return;
    }
    if has_extension(first, &["sh"]) && words.first().is_some_and(|word| word.known) {
        let path = words.first().map(|word| word.text.clone()).unwrap_or_default();
        script(&path, words.get(1..).unwrap_or_default(), variables, mounted, deeper, started);
    }
}

/// What a shell is told: a script, or a file of one.
fn shell_line(
    words: &[Word],
    variables: &mut Variables,
    mounted: &dyn Fn(&str) -> Option<String>,
    deeper: usize,
    started: &mut Started,
) {
    let mut at = 0;
    let mut is_inline = false;
    while let Some(word) =
        words.get(at).filter(|word| word.text.starts_with(['-', '+']) && word.text.len() > 1)
    {
        at += 1;
        if word.text == "--" {
            break;
        }
        is_inline |= !word.text.starts_with("--") && word.text.contains('c');
        // `-o pipefail`, also as the last of several letters.
        if !word.text.starts_with("--") && word.text.ends_with('o') {
            at += 1;
        }
    }
    let Some(text) = words.get(at) else { return };
    let rest = words.get(at + 1..).unwrap_or_default();
    if is_inline {
        // The first word after it is the script's own name.
        let name = std::mem::replace(&mut variables.zero, rest.first().cloned());
        inline(&text.text, rest.get(1..).unwrap_or_default(), variables, mounted, deeper, started);
        variables.zero = name;
    } else {
        script(&text.text, rest, variables, mounted, deeper, started);
    }
}

fn script(
    path: &str,
    arguments: &[Word],
    variables: &mut Variables,
    mounted: &dyn Fn(&str) -> Option<String>,
    deeper: usize,
    started: &mut Started,
) {
    match mounted(path) {
        Some(text) => inline(&text, arguments, variables, mounted, deeper, started),
        None if started.script.is_none() => started.script = Some(path.to_owned()),
        None => {}
    }
}

fn inline(
    text: &str,
    arguments: &[Word],
    variables: &mut Variables,
    mounted: &dyn Fn(&str) -> Option<String>,
    deeper: usize,
    started: &mut Started,
) {
    let Some(deeper) = deeper.checked_sub(1) else { return };
    let outer = std::mem::replace(&mut variables.positional, arguments.to_vec());
    for words in shell::commands(text, variables) {
        line(&words, variables, mounted, deeper, started);
    }
    variables.positional = outer;
}

/// What is started by the word at a place.
fn program(words: &[Word], at: usize) -> Option<Start> {
    let word = words.get(at).filter(|word| word.known)?;
    let rest = |from: usize| words.get(from..).unwrap_or_default().to_vec();
    let next = words.get(at + 1).filter(|word| word.known).map(|word| word.text.as_str());
    let before = at.checked_sub(1).and_then(|before| words.get(before));
    let name = base(&word.text);
    if word.text == "-m" && at > 0 {
        let module = next?;
        let (_, program) = MODULES.iter().find(|(known, _)| *known == module)?;
        return Some(Start { program: *program, arguments: rest(at + 2) });
    }
    // Switches of the interpreter may stand between the two.
    if word.text.ends_with("vllm/entrypoints/openai/api_server.py") {
        return Some(Start { program: Program::Engine(Engine::Vllm), arguments: rest(at + 1) });
    }
    if has_extension(&word.text, &["py"]) && before.is_some_and(|word| is_python(&word.text)) {
        let trains = words.iter().any(|word| {
            let flag = word.text.split('=').next().unwrap_or_default().replace('_', "-");
            matches!(flag.as_str(), "--model-name-or-path" | "--per-device-train-batch-size")
        });
        return trains.then(|| Start { program: Program::Training("transformers"), arguments: rest(at + 1) });
    }
    let (_, second, program) = FILES
        .iter()
        .find(|(file, second, _)| *file == name && second.is_none_or(|second| next == Some(second)))?;
    // A model's path may end like a program: what starts one is no flag's value.
    if before.is_some_and(|before| before.text.starts_with("--"))
        && before.is_none_or(|before| before.text != "--")
    {
        return None;
    }
    let skipped = usize::from(second.is_some() && *program != Program::Engine(Engine::Vllm));
    Some(Start { program: *program, arguments: rest(at + 1 + skipped) })
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_python(word: &str) -> bool {
    base(word).strip_prefix("python").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn is_shell(word: &str) -> bool {
    matches!(base(word), "sh" | "bash" | "ash" | "dash" | "zsh" | "ksh")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Word> {
        line.split('|').filter(|word| !word.is_empty()).map(Word::of).collect()
    }

    fn read(image: &str, command: &str, arguments: &str) -> String {
        let mounted = |path: &str| (path == "/s/run.sh").then(|| "exec vllm serve a/b -tp \"$1\"".to_owned());
        let found = started(Some(image), &words(command), &words(arguments), &Variables::default(), &mounted);
        let each = found.starts.iter().map(|start| {
            let words: Vec<&str> = start.arguments.iter().map(|word| word.text.as_str()).collect();
            format!("{}: {}", start.program.name(), words.join(" "))
        });
        let each = each.chain(found.script.map(|script| format!("script {script}")));
        each.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_command_says_what_runs_and_the_image_only_without_one() {
        const VLLM: &str = "vllm/vllm-openai:v0.19.0";
        for (image, command, arguments, expected) in [
            (VLLM, "", "--model|a/b", "vllm: --model a/b"),
            (VLLM, "vllm|serve|a/b", "", "vllm: serve a/b"),
            (VLLM, "vllm", "serve|a/b", "vllm: serve a/b"),
            ("x", "/opt/bin/vllm|serve|a/b", "", "vllm: serve a/b"),
            (VLLM, "vllm|bench|serve", "", ""),
            (VLLM, "python|app.py", "", ""),
            (VLLM, "python3|-u|-m|vllm.entrypoints.openai.api_server", "--model|a/b", "vllm: --model a/b"),
            (VLLM, "/bin/sh|-c", "vllm serve a/b --port 80", "vllm: serve a/b --port 80"),
            (VLLM, "bash|-lc", "set -e\ncd /x && exec vllm serve a/b", "vllm: serve a/b"),
            (VLLM, "bash|-c|exec \"$@\"|--", "vllm|serve|a/b", "vllm: serve a/b"),
            (VLLM, "bash|-c|echo vllm serve x; pip install vllm; vllm serve a/b", "", "vllm: serve a/b"),
            (VLLM, "bash|-euo|pipefail|-c|vllm serve a/b", "", "vllm: serve a/b"),
            (VLLM, "bash|-c|bash -c 'vllm serve a/b'", "", "vllm: serve a/b"),
            (VLLM, "bash|/s/run.sh|4", "", "vllm: serve a/b -tp 4"),
            (VLLM, "/s/run.sh", "8", "vllm: serve a/b -tp 8"),
            (VLLM, "bash|/s/other.sh", "", "script /s/other.sh"),
            ("x", "ray|symmetric-run|--|vllm|serve|a/b", "", "vllm: serve a/b"),
            (
                "lmsysorg/sglang:v0.5",
                "",
                "python3|-m|sglang.launch_server|--model|a/b",
                "sglang: --model a/b",
            ),
            ("lmsysorg/sglang:v0.5", "", "--model|a/b", ""),
            ("x", "sglang|serve|--model-path|a/b", "", "sglang: --model-path a/b"),
            ("ghcr.io/huggingface/text-generation-inference:3", "", "--model-id|a/b", "tgi: --model-id a/b"),
            ("ghcr.io/ggml-org/llama.cpp:server-cuda", "", "-m|/x.gguf", "llama-cpp: -m /x.gguf"),
            ("ghcr.io/ggml-org/llama.cpp:full", "", "--run", ""),
            ("x", "/app/llama-server|-hf|a/b", "", "llama-cpp: -hf a/b"),
            (
                "quay.io/x/vllm-cuda-rhel9:1",
                "",
                "--model|a|--max-model-len|1",
                "vllm: --model a --max-model-len 1",
            ),
            ("quay.io/x/vllm-router:1", "", "--port|80", ""),
            ("x", "torchrun|--nproc-per-node|8|train.py", "", "transformers: --nproc-per-node 8 train.py"),
            ("x", "torchrun|-m|sglang.launch_server|--tp|8", "", "sglang: --tp 8"),
            ("x", "axolotl|train|/c.yml", "", "transformers: /c.yml"),
            ("x", "python|train.py|--model_name_or_path|a/b", "", "transformers: --model_name_or_path a/b"),
            ("nvcr.io/nim/meta/llama3:1", "", "", "nim: "),
            ("nginx", "nginx", "", ""),
            ("x", "", "", ""),
        ] {
            assert_eq!(read(image, command, arguments), expected, "{image} {command} {arguments}");
        }
    }
}
