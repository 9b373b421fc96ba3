//! Models on disk: a directory as the Hub has it, or one file of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::error::SourceError;
use super::gguf_files::{self, FIRST_RANGE, Failed};
use super::weight_files;
use crate::model::content::{Content, TELLING};
use crate::model::{ModelShape, ParseError, gguf, hf_config, safetensors};
use crate::units::shorten;

/// The largest config that is read.
const MAX_CONFIG: u64 = 4 << 20;
/// The most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// Reads the model at a path.
///
/// # Errors
/// If a file cannot be read, is not what its name says, or there are no weights.
pub(super) fn read(path: &Path) -> Result<ModelShape, SourceError> {
    let metadata = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
    if metadata.is_dir() {
        return directory(path);
    }
    let content = identify(path)?;
    if let Some(remedy) = content.remedy() {
        return Err(SourceError::NoWeights {
            of: path.display().to_string(),
            problem: format!("it is {}", content.describe()),
            remedy: remedy.to_owned(),
        });
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("gguf") => read_gguf(path),
        Some("safetensors") => {
            let index = parent.join(weight_files::INDEX);
            if index.is_file() {
                let listed = read_index(&index)?;
                // One shard of a model stands for all of them: by itself it would be estimated too small.
                if listed.contains(&name) {
                    return read_safetensors(parent, &listed);
                }
            }
            read_safetensors(parent, &[name])
        }
        Some("json") if name == weight_files::INDEX => read_safetensors(parent, &read_index(path)?),
        _ => {
            match content {
                Content::Gguf => return read_gguf(path),
                Content::Safetensors => return read_safetensors(parent, &[name]),
                _ => {}
            }
            let bytes = whole(path, MAX_CONFIG)?;
            super::configmap::read(&bytes, "model file", &model_name(path))
                .map_err(|error| parse(path, error))
        }
    }
}

/// What the file at a path is, from how it begins.
///
/// # Errors
/// If it cannot be read.
pub fn identify(path: &Path) -> Result<Content, SourceError> {
    let first = range(path, 0, u64::try_from(TELLING).unwrap_or(u64::MAX))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Content::of(&name, &first))
}

fn directory(path: &Path) -> Result<ModelShape, SourceError> {
    let index = path.join(weight_files::INDEX);
    if index.is_file() {
        return read_safetensors(path, &read_index(&index)?);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| failed(path, &error))?.take(MAX_ENTRIES) {
        let entry = entry.map_err(|error| failed(path, &error))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    let files = weight_files::safetensors_of(&names);
    if !files.is_empty() {
        return read_safetensors(path, &files);
    }
    let mut ggufs: Vec<&String> = names.iter().filter(|name| name.strip_suffix(".gguf").is_some()).collect();
    ggufs.sort();
    // The first of the files of a split model stands for all of them.
    if let Some(&first) = ggufs.first() {
        let one = ggufs.len() == 1
            || u64::try_from(ggufs.len())
                .ok()
                .and_then(|count| gguf_files::split_names(first, count))
                .is_some_and(|split| split.iter().eq(ggufs.iter().copied()));
        if one {
            return read_gguf(&path.join(first));
        }
        return Err(SourceError::NoWeights {
            of: path.display().to_string(),
            problem: format!("there are {} GGUF files in it", ggufs.len()),
            remedy: "name one of them".to_owned(),
        });
    }
    let config = path.join("config.json");
    if config.is_file() {
        let bytes = whole(&config, MAX_CONFIG)?;
        let quant = optional(&path.join(weight_files::QUANT_CONFIG))?;
        return hf_config::parse_with_quant(&bytes, quant.as_deref(), &model_name(path))
            .map_err(|error| parse(&config, error));
    }
    if let Some(pickle) = names.iter().find(|name| Content::of(name, b"\0") == Content::PyTorch) {
        return Err(SourceError::NoWeights {
            of: path.display().to_string(),
            problem: format!(
                "of weights there are only PyTorch checkpoints in it, such as {}, which are not read, for that would run them",
                shorten(pickle)
            ),
            remedy: "give the model's safetensors files, or its config.json".to_owned(),
        });
    }
    Err(SourceError::NoWeights {
        of: path.display().to_string(),
        problem: "there is no config.json, safetensors or GGUF file in it".to_owned(),
        remedy: "give the directory that has the model's files".to_owned(),
    })
}

fn read_index(path: &Path) -> Result<Vec<String>, SourceError> {
    let limit = u64::try_from(safetensors::MAX_INDEX).unwrap_or(u64::MAX);
    let bytes = whole(path, limit)?;
    safetensors::Index::parse(&bytes).map(|index| index.files).map_err(|error| parse(path, error))
}

fn read_safetensors(directory: &Path, files: &[String]) -> Result<ModelShape, SourceError> {
    let mut headers = Vec::with_capacity(files.len());
    for file in files {
        let path = directory.join(file);
        // The length is in eight bytes; what else the file may be takes some more.
        let first = range(&path, 0, 4096)?;
        let length = safetensors::header_length(&first).map_err(|error| parse(&path, error))?;
        let bytes = range(&path, 0, length)?;
        let header = safetensors::parse_header(&bytes).map_err(|error| parse(&path, error))?;
        let size = std::fs::metadata(&path).map_err(|error| failed(&path, &error))?.len();
        // A file of just the header is as good: nothing else is read.
        if size > header.header_bytes {
            header.check_file_size(size).map_err(|error| parse(&path, error))?;
        }
        headers.push(header);
    }
    let config = optional(&directory.join("config.json"))?;
    let quant = optional(&directory.join(weight_files::QUANT_CONFIG))?;
    safetensors::shape_with_quant(&headers, config.as_deref(), quant.as_deref(), &model_name(directory))
        .map_err(|error| parse(directory, error))
}

fn read_gguf(path: &Path) -> Result<ModelShape, SourceError> {
    let first = gguf_header(path)?;
    let count = gguf::split_count(&first);
    if count == 1 {
        return gguf::shape(&[first], &model_name(path)).map_err(|error| parse(path, error));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let names = gguf_files::split_names(&name, count)
        .ok_or_else(|| parse(path, gguf_files::not_named_as_split(&name, count)))?;
    if let Some(gone) = names.iter().find(|name| !path.with_file_name(name).is_file()) {
        return Err(SourceError::NoWeights {
            of: path.display().to_string(),
            problem: format!(
                "it is one of the {count} files of a model, and {} is not beside it",
                shorten(gone)
            ),
            remedy: "put all of them into one directory, and name any of them".to_owned(),
        });
    }
    let headers =
        names.iter().map(|name| gguf_header(&path.with_file_name(name))).collect::<Result<Vec<_>, _>>()?;
    gguf::shape(&headers, &model_name(path)).map_err(|error| parse(path, error))
}

fn gguf_header(path: &Path) -> Result<gguf::Header, SourceError> {
    let first = range(path, 0, FIRST_RANGE)?;
    let header =
        gguf_files::read_header(first, |from, to| range(path, from, to)).map_err(|failed| match failed {
            Failed::Read(error) => error,
            Failed::Parse(error) => parse(path, error),
        })?;
    let size = std::fs::metadata(path).map_err(|error| failed(path, &error))?.len();
    // A file of just the header is as good: nothing else is read.
    if size > header.data_start {
        header.check_file_size(size).map_err(|error| parse(path, error))?;
    }
    Ok(header)
}

/// A part of a file; less where it ends.
fn range(path: &Path, from: u64, to: u64) -> Result<Vec<u8>, SourceError> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| failed(path, &error))
}

/// A whole file, of bounded size.
fn whole(path: &Path, limit: u64) -> Result<Vec<u8>, SourceError> {
    let bytes = range(path, 0, limit.saturating_add(1))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(SourceError::TooLarge {
            of: path.display().to_string(),
            what: "the file".to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    if path.is_file() { whole(path, MAX_CONFIG).map(Some) } else { Ok(None) }
}

/// What to call a model by its path: a directory's name, or a file's without its extension.
fn model_name(path: &Path) -> String {
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    stem.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn failed(path: &Path, error: &std::io::Error) -> SourceError {
    SourceError::File { path: path.display().to_string(), problem: error.to_string() }
}

fn parse(path: &Path, error: ParseError) -> SourceError {
    SourceError::Parse { of: path.display().to_string(), error }
}
