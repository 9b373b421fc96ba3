//! What a file is, from how it begins: so that a file that is not the wanted one is called what it is.

/// How many bytes from the beginning tell.
pub const TELLING: usize = 64 << 10;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing, or white space.
    Empty,
    /// A GGUF file.
    Gguf,
    /// What llama.cpp wrote before GGUF.
    Ggml,
    /// A safetensors file.
    Safetensors,
    /// The JSON of a safetensors header by itself.
    SafetensorsJson,
    /// A `model.safetensors.index.json`.
    Index,
    /// A Hugging Face `config.json`.
    Config,
    /// Other JSON.
    Json,
    /// A Git LFS pointer: what a clone without LFS has in place of each large file.
    LfsPointer {
        /// The size of the file that it stands for, in bytes, where it says.
        bytes: Option<u64>,
    },
    /// An HTML or XML page: what an error, a login or a licence looks like when it is saved.
    Page,
    /// A PyTorch checkpoint: a pickle, or a zip archive with one in it.
    PyTorch,
    /// An HDF5 file, as of Keras.
    Hdf5,
    /// Other text.
    Text,
    /// Other bytes.
    Binary,
}

impl Content {
    /// What begins with these bytes; [`TELLING`] of them are enough. A name counts where it tells more: a pickle looks like anything.
    #[must_use]
    pub fn of(name: &str, first: &[u8]) -> Self {
        let first = first.get(..TELLING).unwrap_or(first);
        let text = first.trim_ascii_start();
        let begins =
            |with: &[u8]| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
        if text.is_empty() {
            Self::Empty
        } else if first.starts_with(b"GGUF") {
            Self::Gguf
        } else if first.starts_with(b"version https://git-lfs.github.com/spec/") {
            Self::LfsPointer { bytes: pointer_size(first) }
        } else if [&b"<!doctype"[..], b"<html", b"<?xml", b"<!--"].into_iter().any(begins) {
            Self::Page
        } else if first.get(8) == Some(&b'{') && first.get(6..8) == Some(&[0, 0]) {
            // The length of the header, below 2^48, and the header.
            Self::Safetensors
        } else if [b"ggml", b"lmgg", b"ggjt", b"tjgg", b"fmgg"]
            .into_iter()
            .any(|magic| first.starts_with(magic))
        {
            Self::Ggml
        } else if is_pytorch(name, first) {
            Self::PyTorch
        } else if first.starts_with(b"\x89HDF\r\n\x1a\n") {
            Self::Hdf5
        } else if begins(b"{") {
            json(text)
        } else {
            match std::str::from_utf8(first) {
                Ok(_) => Self::Text,
                // The last character may be cut in two.
                Err(error) if error.error_len().is_none() && first.len() == TELLING => Self::Text,
                Err(_) => Self::Binary,
            }
        }
    }

    /// What it is, with its article.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Empty => "an empty file",
            Self::Gguf => "a GGUF file",
            Self::Ggml => "a GGML file of before GGUF",
            Self::Safetensors => "a safetensors file",
            Self::SafetensorsJson => "the JSON of a safetensors header",
            Self::Index => "the index of a model's safetensors files",
            Self::Config => "a config.json",
            Self::Json => "JSON that does not name a model type",
            Self::LfsPointer { bytes: Some(bytes) } => {
                return format!("a Git LFS pointer, which stands for a file of {bytes} bytes");
            }
            Self::LfsPointer { bytes: None } => "a Git LFS pointer, which stands for another file",
            Self::Page => "a web page, such as a server sends for an error or a login",
            Self::PyTorch => "a PyTorch checkpoint (a pickle, which is a program)",
            Self::Hdf5 => "an HDF5 file",
            Self::Text => "text that is not JSON",
            Self::Binary => "a binary file of an unknown format",
        }
        .to_owned()
    }

    /// What to do about a file that no reader takes; `None` if one does, or nothing is known of it.
    #[must_use]
    pub const fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::Empty => "download it again",
            Self::Ggml => "convert it with a current llama.cpp",
            Self::LfsPointer { .. } => {
                "fetch the file itself with `git lfs pull`, or download it from the repository's page"
            }
            Self::Page => {
                "read it in a browser to see what the server said, and download the file again; a gated repository needs an access token"
            }
            Self::PyTorch => {
                "it is not read, for that would run it; give the safetensors files of the model, or its config.json"
            }
            Self::Hdf5 => "give the safetensors files of the model, or its config.json",
            _ => return None,
        })
    }
}

/// The words for a file that is not the wanted one.
pub(crate) fn not_it(content: Content, wanted: &str) -> String {
    let remedy = content.remedy().map_or_else(String::new, |remedy| format!("; {remedy}"));
    format!("it is {}, not {wanted}{remedy}", content.describe())
}

/// A zip archive or a pickle, or named as PyTorch names its own.
fn is_pytorch(name: &str, first: &[u8]) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let named = ["bin", "pt", "pth", "ckpt", "pkl", "pickle"]
        .iter()
        .any(|pickle| extension.eq_ignore_ascii_case(pickle));
    // A pickle begins with its protocol, 2 to 5.
    let pickle = matches!(first, [0x80, 2..=5, ..]);
    pickle || first.starts_with(b"PK\x03\x04") || (named && first.first() != Some(&b'{'))
}

/// The line `size 123` of a pointer.
fn pointer_size(pointer: &[u8]) -> Option<u64> {
    let text = pointer.get(..1024).unwrap_or(pointer);
    let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"size "))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// What a JSON object is by its fields. It may be cut off.
fn json(text: &[u8]) -> Content {
    let mut content = Content::Json;
    let (mut depth, mut quote, mut escaped) = (0_u32, None, false);
    let mut last: &[u8] = &[];
    for (at, &byte) in text.iter().enumerate() {
        if let Some(start) = quote {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    last = text.get(start..at).unwrap_or_default();
                    quote = None;
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quote = Some(at + 1),
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' => match (depth, last) {
                (1, b"weight_map") => return Content::Index,
                (1, b"model_type" | b"architectures") => return Content::Config,
                (2, b"data_offsets") => content = Content::SafetensorsJson,
                _ => {}
            },
            _ => {}
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights;

    #[test]
    fn a_file_is_called_what_it_is() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 16060522496\n";
        let tensors = weights::safetensors(&[("a", "BF16", &[4])]);
        let cut = [b"{\"x\": \"".to_vec(), "\u{e4}".repeat(TELLING).into_bytes()].concat();
        for (name, bytes, expect) in [
            ("m.gguf", &b""[..], Content::Empty),
            ("m.gguf", b" \n\t", Content::Empty),
            ("m.bin", b"", Content::Empty),
            ("config.json", b"GGUF\x03\0\0\0", Content::Gguf),
            ("m.safetensors", &tensors, Content::Safetensors),
            ("m", tensors.get(8..).expect("longer"), Content::SafetensorsJson),
            ("m.gguf", pointer, Content::LfsPointer { bytes: Some(16_060_522_496) }),
            ("pytorch_model.bin", pointer, Content::LfsPointer { bytes: Some(16_060_522_496) }),
            (
                "m",
                b"version https://git-lfs.github.com/spec/v1\nsize many\n",
                Content::LfsPointer { bytes: None },
            ),
            ("m", b"\n<!DOCTYPE html><html>", Content::Page),
            ("m", b"<HTML>", Content::Page),
            ("m", b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", Content::Page),
            ("pytorch_model.bin", b"anything", Content::PyTorch),
            ("m.PTH", b"anything", Content::PyTorch),
            ("m.bin", &tensors, Content::Safetensors),
            ("m.bin", b"GGUF\x03\0\0\0", Content::Gguf),
            ("ggml-model-q4_0.bin", b"tjgg\x03\0\0\0", Content::Ggml),
            ("m", b"PK\x03\x04", Content::PyTorch),
            ("m", b"\x80\x02}q\0(X\x05\0\0\0", Content::PyTorch),
            ("m.h5", b"\x89HDF\r\n\x1a\n", Content::Hdf5),
            ("m", b"{\"a\": {\"model_type\": 1}, \"weight_map\": {}", Content::Index),
            ("m", b"{\"model_type\": \"llama\", \"x\": NaN", Content::Config),
            ("m", b"{\"x\": \"model_type\", \"a\": {\"model_type\": \"llama\"}}", Content::Json),
            ("m.bin", b"{\"architectures\" : [\"A\"]}", Content::Config),
            ("m", b"{", Content::Json),
            ("m", b"hello", Content::Text),
            ("m", b"h\xffllo", Content::Binary),
            ("m", &cut, Content::Json),
            ("m", cut.get(7..).expect("longer"), Content::Text),
        ] {
            assert_eq!(Content::of(name, bytes), expect, "{name}: {}", String::from_utf8_lossy(bytes));
        }
    }
}
