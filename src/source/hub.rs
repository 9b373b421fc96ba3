//! Models of a Hugging Face Hub, or a mirror of it: configs, indexes, and the headers of weight files. Weights are never read.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::error::SourceError;
use super::exchange::{Answer, Found, Request};
use super::gguf_files::{self, FIRST_RANGE, Failed};
use super::http::Client;
use super::in_flight::Meter;
use super::listing;
use super::settings::Token;
use super::weight_files;
use crate::model::{ModelShape, ParseError, gguf, hf_config, safetensors};
use crate::units::shorten;

/// The largest config that is read.
const MAX_CONFIG: u64 = 4 << 20;
/// The largest list of a repository's files that is read.
const MAX_LISTING: u64 = 16 << 20;
/// What is read of a safetensors file at first: most headers are shorter.
const FIRST_SAFETENSORS: u64 = 128 << 10;
/// The most bytes of all headers of one model; those of the largest are some 20 MiB.
const MAX_HEADERS: usize = 64 << 20;
/// The most tensors of one model; the largest have some 200,000.
const MAX_TENSORS: usize = 400_000;
/// What is known of a tensor takes so many bytes of memory while a model is read.
const TENSOR_BYTES: usize = 512;
/// Files whose headers are read at once.
const WORKERS: usize = 8;

/// A model on the Hub.
pub(super) struct Model<'a> {
    pub(super) client: &'a Client,
    pub(super) endpoint: &'a str,
    pub(super) repository: &'a str,
    pub(super) revision: &'a str,
    /// For GGUF: the file.
    pub(super) file: Option<&'a str>,
    pub(super) token: Option<&'a Token>,
    pub(super) deadline: Instant,
    /// Counts what is held meanwhile.
    pub(super) meter: &'a Meter<'a>,
}

/// What the first request brought: enough to know the commit.
pub(super) struct Opened {
    first: Option<Found>,
    /// The commit that the revision stands for, where the server says.
    pub(super) commit: Option<String>,
}

impl Model<'_> {
    /// Makes the first request.
    ///
    /// # Errors
    /// If the repository, the revision or the file is not there, or may not be read.
    pub(super) fn open(&self) -> Result<Opened, SourceError> {
        let answer = match self.file {
            Some(file) => self.get(self.revision, file, Some((0, FIRST_RANGE)), FIRST_RANGE)?,
            None => self.get(self.revision, "config.json", None, MAX_CONFIG)?,
        };
        match answer {
            Answer::Found(found) => {
                let commit = found.commit.clone().filter(|commit| is_commit(commit));
                Ok(Opened { first: Some(found), commit })
            }
            Answer::Missing { code } => match (code.as_deref(), self.file) {
                (Some("RepoNotFound"), _) => Err(self.not_found(
                    "such repository".to_owned(),
                    "check model.huggingFace.repository; a private one needs tokenSecretRef",
                )),
                (Some("RevisionNotFound"), _) => Err(self.not_found(
                    format!("revision {}", shorten(self.revision)),
                    "check model.huggingFace.revision",
                )),
                (_, Some(file)) => Err(self.not_found(
                    format!("file {}", shorten(file)),
                    "check model.gguf.huggingFace.file, repository and revision",
                )),
                // A repository without a config (GGUF, or Mistral's own format), or a mirror that does not say.
                (_, None) => Ok(Opened { first: None, commit: None }),
            },
        }
    }

    /// Reads the model, at the commit of the first request.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub(super) fn read(&self, opened: Opened) -> Result<ModelShape, SourceError> {
        let revision = opened.commit.as_deref().unwrap_or(self.revision);
        match (self.file, opened.first) {
            (Some(file), Some(first)) => self.read_gguf(revision, file, first),
            (Some(file), None) => {
                Err(self.not_found(format!("file {}", shorten(file)), "check the file's name"))
            }
            (None, first) => self.read_safetensors(revision, first.map(|found| found.bytes)),
        }
    }

    fn read_gguf(&self, revision: &str, file: &str, first: Found) -> Result<ModelShape, SourceError> {
        let header = self.gguf_header(revision, file, first)?;
        let count = gguf::split_count(&header);
        if count == 1 {
            return gguf::shape(&[header], self.repository).map_err(|error| self.parse(error));
        }
        let names = gguf_files::split_names(file, count)
            .ok_or_else(|| self.parse(gguf_files::not_named_as_split(file, count)))?;
        let headers = in_parallel(&names, |name| {
            let first = self.range(revision, name, 0, FIRST_RANGE)?;
            self.gguf_header(revision, name, first)
        })?;
        gguf::shape(&headers, self.repository).map_err(|error| self.parse(error))
    }

    fn gguf_header(&self, revision: &str, file: &str, first: Found) -> Result<gguf::Header, SourceError> {
        let total = first.total;
        let header = gguf_files::read_header(first.bytes, |from, to| {
            self.range(revision, file, from, to).map(|found| found.bytes)
        })
        .map_err(|failed| match failed {
            Failed::Read(error) => error,
            Failed::Parse(error) => self.parse(error),
        })?;
        total.map_or(Ok(()), |total| header.check_file_size(total)).map_err(|error| self.parse(error))?;
        Ok(header)
    }

    fn read_safetensors(&self, revision: &str, config: Option<Vec<u8>>) -> Result<ModelShape, SourceError> {
        let Some(files) = self.safetensors_files(revision, config.is_some())? else {
            // Weights of another format, with a config: the config counts them.
            let Some(config) = config else {
                return Err(self.not_found(
                    format!("repository, or revision {}, with weights in it", shorten(self.revision)),
                    "check model.huggingFace.repository and revision",
                ));
            };
            return self.counted_from_config(revision, &config, "The repository has no safetensors files");
        };
        let (read, tensors) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let headers = in_parallel(&files, |file| {
            let header = self.safetensors_header(revision, file)?;
            let length = usize::try_from(header.header_bytes).unwrap_or(usize::MAX);
            let before = read.fetch_add(length.min(MAX_HEADERS), Ordering::Relaxed);
            if before.saturating_add(length) > MAX_HEADERS {
                return Err(SourceError::TooLarge {
                    of: self.of(),
                    what: "the headers of its files together".to_owned(),
                    limit: u64::try_from(MAX_HEADERS).unwrap_or(u64::MAX),
                });
            }
            let count = header.tensors.len();
            let held = u64::try_from(count.saturating_mul(TENSOR_BYTES)).unwrap_or(u64::MAX);
            self.meter.take(self.repository, held)?;
            let count = tensors.fetch_add(count, Ordering::Relaxed).saturating_add(count);
            if count > MAX_TENSORS {
                let problem = format!("its files have more than {MAX_TENSORS} tensors together");
                return Err(self.parse(ParseError::TooLarge { what: "safetensors header", problem }));
            }
            Ok(header)
        });
        let headers = match (headers, &config) {
            (Err(error), Some(config)) if is_too_much(&error) => {
                // The largest models have more headers than are read; their configs are as short as any.
                let why = "The headers of its files are more than is read";
                return self.counted_from_config(revision, config, why).map_err(|_| error);
            }
            (headers, _) => headers?,
        };
        let quant = match &config {
            Some(config) if weight_files::may_have_quant_config(config, &headers) => {
                match self.get(revision, weight_files::QUANT_CONFIG, None, MAX_CONFIG)? {
                    Answer::Found(found) => Some(found.bytes),
                    Answer::Missing { .. } => None,
                }
            }
            _ => None,
        };
        safetensors::shape_with_quant(&headers, config.as_deref(), quant.as_deref(), self.repository)
            .map_err(|error| self.parse(error))
    }

    /// The model as its config counts it, and why the files do not.
    fn counted_from_config(
        &self,
        revision: &str,
        config: &[u8],
        why: &str,
    ) -> Result<ModelShape, SourceError> {
        let quant = match self.get(revision, weight_files::QUANT_CONFIG, None, MAX_CONFIG)? {
            Answer::Found(found) => Some(found.bytes),
            Answer::Missing { .. } => None,
        };
        let mut shape = hf_config::parse_with_quant(config, quant.as_deref(), self.repository)
            .map_err(|error| self.parse(error))?;
        shape.notes.push(format!("{why}: the weights are counted from config.json."));
        Ok(shape)
    }

    /// The safetensors files of the model: those that the index names, or the only one; `None` if it has none.
    fn safetensors_files(
        &self,
        revision: &str,
        has_config: bool,
    ) -> Result<Option<Vec<String>>, SourceError> {
        let limit = u64::try_from(safetensors::MAX_INDEX).unwrap_or(u64::MAX);
        if let Answer::Found(found) = self.get(revision, weight_files::INDEX, None, limit)? {
            let index = safetensors::Index::parse(&found.bytes).map_err(|error| self.parse(error))?;
            return Ok(Some(index.files));
        }
        if let Answer::Found(_) = self.get(revision, weight_files::SINGLE, Some((0, 8)), 8)? {
            return Ok(Some(vec![weight_files::SINGLE.to_owned()]));
        }
        let Some(names) = self.listing(revision)? else { return Ok(None) };
        let files = weight_files::safetensors_of(&names);
        if !files.is_empty() {
            return Ok(Some(files));
        }
        let ggufs: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| name.strip_suffix(".gguf").is_some()).collect();
        if !ggufs.is_empty() && !has_config {
            let shown: Vec<String> = ggufs.iter().take(4).map(|name| shorten(name)).collect();
            let more = if ggufs.len() > shown.len() { ", …" } else { "" };
            return Err(SourceError::NoWeights {
                of: self.of(),
                problem: "the repository has GGUF files, and none is named".to_owned(),
                remedy: format!("set model.gguf.huggingFace.file to one of {}{more}", shown.join(", ")),
            });
        }
        if has_config {
            return Ok(None);
        }
        Err(SourceError::NoWeights {
            of: self.of(),
            problem: "the repository has neither a config.json nor safetensors or GGUF files".to_owned(),
            remedy: "give model.config or model.parameters instead".to_owned(),
        })
    }

    /// The names of the weight files, by the Hub's API; `None` where there is no such thing.
    fn listing(&self, revision: &str) -> Result<Option<Vec<String>>, SourceError> {
        let url =
            format!("{}/api/models/{}/revision/{}", self.endpoint, self.repository, encode(revision, false));
        match self.client.get(&self.request(url, None, MAX_LISTING))? {
            Answer::Missing { .. } => Ok(None),
            Answer::Found(found) => {
                listing::weight_files(&found.bytes).map(Some).map_err(|error| self.parse(error))
            }
        }
    }

    fn safetensors_header(&self, revision: &str, file: &str) -> Result<safetensors::Header, SourceError> {
        let Found { mut bytes, total, .. } = self.range(revision, file, 0, FIRST_SAFETENSORS)?;
        let parse = |error| self.parse(error);
        let length = safetensors::header_length(&bytes).map_err(parse)?;
        let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if have < length {
            bytes.extend(self.range(revision, file, have, length)?.bytes);
        }
        let header = safetensors::parse_header(&bytes).map_err(parse)?;
        total.map_or(Ok(()), |total| header.check_file_size(total)).map_err(parse)?;
        Ok(header)
    }

    fn range(&self, revision: &str, file: &str, from: u64, to: u64) -> Result<Found, SourceError> {
        match self.get(revision, file, Some((from, to)), to)? {
            Answer::Found(found) => Ok(found),
            Answer::Missing { .. } => Err(self.not_found(
                format!("file {}", shorten(file)),
                "the index or the name of another file says that it is there; the upload is incomplete",
            )),
        }
    }

    fn get(
        &self,
        revision: &str,
        file: &str,
        range: Option<(u64, u64)>,
        limit: u64,
    ) -> Result<Answer, SourceError> {
        let url = format!(
            "{}/{}/resolve/{}/{}",
            self.endpoint,
            self.repository,
            encode(revision, false),
            encode(file, true)
        );
        self.client.get(&self.request(url, range, limit))
    }

    fn request(&self, url: String, range: Option<(u64, u64)>, limit: u64) -> Request<'_> {
        Request {
            of: self.repository,
            url,
            token: self.token,
            range,
            limit,
            deadline: self.deadline,
            meter: self.meter,
        }
    }

    fn of(&self) -> String {
        self.repository.to_owned()
    }

    fn parse(&self, error: ParseError) -> SourceError {
        SourceError::Parse { of: self.of(), error }
    }

    fn not_found(&self, missing: String, remedy: &'static str) -> SourceError {
        let host = self.endpoint.split("://").nth(1).unwrap_or(self.endpoint);
        SourceError::NotFound { of: self.of(), endpoint: host.to_owned(), missing, remedy }
    }
}

/// Whether what was to be read is in order, but more than is read.
const fn is_too_much(error: &SourceError) -> bool {
    matches!(
        error,
        SourceError::TooLarge { .. } | SourceError::Parse { error: ParseError::TooLarge { .. }, .. }
    )
}

/// A GGUF file at an address.
pub(super) struct File<'a> {
    client: &'a Client,
    url: &'a str,
    /// What it is called in messages.
    of: String,
    deadline: Instant,
    meter: &'a Meter<'a>,
}

/// The first part of such a file.
pub(super) struct FilePart(Found);

impl FilePart {
    /// What the server calls this content of the file, if it does.
    pub(super) fn etag(&self) -> Option<&str> {
        self.0.etag.as_deref()
    }
}

impl<'a> File<'a> {
    pub(super) fn new(client: &'a Client, url: &'a str, deadline: Instant, meter: &'a Meter<'a>) -> Self {
        let of = shorten(url.split(['?', '#']).next().unwrap_or(url));
        Self { client, url, of, deadline, meter }
    }

    /// Makes the first request.
    ///
    /// # Errors
    /// If the file is not there, or may not be read.
    pub(super) fn open(&self) -> Result<FilePart, SourceError> {
        self.range(self.url, 0, FIRST_RANGE).map(FilePart)
    }

    /// Reads the model, with the other files of a split one.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub(super) fn read(&self, first: FilePart) -> Result<ModelShape, SourceError> {
        let first = self.header(self.url, first.0)?;
        let name = self.of.rsplit('/').next().unwrap_or(&self.of).to_owned();
        let count = gguf::split_count(&first);
        if count == 1 {
            return gguf::shape(&[first], &name).map_err(|error| self.parse(error));
        }
        let names = gguf_files::split_names(self.url, count)
            .ok_or_else(|| self.parse(gguf_files::not_named_as_split(&name, count)))?;
        let headers = in_parallel(&names, |url| self.header(url, self.range(url, 0, FIRST_RANGE)?))?;
        gguf::shape(&headers, &name).map_err(|error| self.parse(error))
    }

    fn header(&self, url: &str, first: Found) -> Result<gguf::Header, SourceError> {
        let total = first.total;
        let header = gguf_files::read_header(first.bytes, |from, to| {
            self.range(url, from, to).map(|found| found.bytes)
        })
        .map_err(|failed| match failed {
            Failed::Read(error) => error,
            Failed::Parse(error) => self.parse(error),
        })?;
        total.map_or(Ok(()), |total| header.check_file_size(total)).map_err(|error| self.parse(error))?;
        Ok(header)
    }

    fn range(&self, url: &str, from: u64, to: u64) -> Result<Found, SourceError> {
        let request = Request {
            of: &self.of,
            url: url.to_owned(),
            token: None,
            range: Some((from, to)),
            limit: to,
            deadline: self.deadline,
            meter: self.meter,
        };
        match self.client.get(&request)? {
            Answer::Found(found) => Ok(found),
            Answer::Missing { .. } => Err(SourceError::NotFound {
                of: self.of.clone(),
                endpoint: "the server".to_owned(),
                missing: "such file".to_owned(),
                remedy: "check model.gguf.url",
            }),
        }
    }

    fn parse(&self, error: ParseError) -> SourceError {
        SourceError::Parse { of: self.of.clone(), error }
    }
}

/// Does the same for each file, some at once; the first error ends it.
fn in_parallel<T: Send>(
    files: &[String],
    work: impl Fn(&str) -> Result<T, SourceError> + Sync,
) -> Result<Vec<T>, SourceError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<Vec<(usize, Result<T, SourceError>)>> = Mutex::new(Vec::with_capacity(files.len()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(files.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(at) else { break };
                    let result = work(file);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    // A poisoned lock would mean that a push panicked: what is in it is still whole.
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|&(at, _)| at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Is it a full commit hash?
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Percent-encodes what could be taken for another part of an address.
fn encode(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if keep_slashes => encoded.push('/'),
            byte => encoded.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    encoded
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase()
}
