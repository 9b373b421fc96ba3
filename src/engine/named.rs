//! Where a user's own words (arguments, environment) say that the weights are, and whether an engine can load them from there.

use super::arguments::flags;
use super::loading::{Loading, Source, Stored, loadable};
use super::table::{Files, Place, Says, Table};
use super::tables;
use crate::model::catalog;
use crate::precision::{Engine, Precision};

/// Where the user's own words say that the weights are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    /// They say nothing of it.
    #[default]
    No,
    /// They say it in a way that cannot be read here: a variable whose value is elsewhere.
    Unread,
    /// Here: a repository, a path or an address.
    At(&'a str),
}

/// What names of repositories say of the format within, in lower case: the words that publishers use.
const WORDS: &[(&str, &[Precision])] = {
    use Precision::{
        AwqInt4, BnbInt8, Fp8, Fp8Block, GptqInt4, GptqInt8, Int4, Int8, Mxfp4, Mxfp8, Nf4, Nvfp4,
    };
    &[
        ("awq", &[AwqInt4, Int4]),
        ("gptq", &[GptqInt4, GptqInt8, Int4, Int8]),
        ("mxfp4", &[Mxfp4]),
        ("nvfp4", &[Nvfp4]),
        ("fp4", &[Nvfp4, Mxfp4]),
        ("mxfp8", &[Mxfp8]),
        ("fp8", &[Fp8, Fp8Block]),
        ("w8a8", &[Int8, BnbInt8, Fp8]),
        ("w8a16", &[GptqInt8, Int8]),
        ("w4a16", &[GptqInt4, AwqInt4, Int4]),
        ("int8", &[Int8, GptqInt8, BnbInt8]),
        ("8bit", &[Int8, GptqInt8, BnbInt8]),
        ("8-bit", &[Int8, GptqInt8, BnbInt8]),
        ("int4", &[Int4, GptqInt4, AwqInt4]),
        ("4bit", &[Nf4, Int4, GptqInt4, AwqInt4]),
        ("4-bit", &[Nf4, Int4, GptqInt4, AwqInt4]),
        ("nf4", &[Nf4]),
        ("quantized.", &[Int8, Int4, GptqInt4, GptqInt8, Fp8]),
    ]
};

impl Named<'_> {
    /// Whether the model is named at all.
    pub(crate) const fn is_any(self) -> bool {
        !matches!(self, Self::No)
    }
}

/// What an engine's arguments name.
pub(crate) fn named(engine: Engine, arguments: &[String]) -> Named<'_> {
    named_by(tables::of(engine), arguments)
}

pub(super) fn named_by<'a>(table: &Table, arguments: &'a [String]) -> Named<'a> {
    let of_flag = flags(arguments).find_map(|flag| {
        let entry = table.entry(&flag.name)?;
        matches!(entry.says, Says::Model(place) if place != Place::File).then_some(flag.value?)
    });
    let is_word = |word: &&String| !word.is_empty() && !word.starts_with('-');
    let first = arguments.first().filter(is_word);
    // `serve` is the program's own word, where the whole command line is given.
    let positional = match first {
        Some(word) if word == "serve" => arguments.get(1).filter(is_word),
        first => first,
    };
    let positional = positional.filter(|_| table.positional_model).map(String::as_str);
    of_flag.or(positional).map_or(Named::No, Named::At)
}

/// The method of quantising that an engine is told.
pub(super) fn method<'a>(table: &Table, arguments: &'a [String]) -> Option<&'a str> {
    flags(arguments).find_map(|flag| {
        let entry = table.entry(&flag.name)?;
        matches!(entry.says, Says::Quantization).then_some(flag.value?)
    })
}

/// Whether it is on a disk or in a bucket, of which nothing can be known here, and not a repository of the Hub.
fn is_a_file(place: &str) -> bool {
    place.starts_with(['/', '.', '~', '$']) || place.contains("://") || place.split('/').count() > 2
}

/// Whether two name the same repository.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

/// Whether, and how, an engine loads the weights that were estimated from another place than the spec's own. A repository holds
/// one format, and its name says which; what is in a file, the user knows.
pub(super) fn from_elsewhere(engine: Engine, place: &str, stored: Stored, wanted: Precision) -> Loading {
    let loads = &tables::of(engine).loads;
    if loads.files == Files::Safetensors {
        let is_stored_so = stored.quantized && stored.precision == Some(wanted);
        let of_own = loadable(engine, Source::Unsaid, Stored { quantized: false, ..stored }, wanted);
        let is_held = is_stored_so || is_a_file(place) || says(place, wanted);
        return match of_own {
            Loading::Quantize(_) if says(place, wanted) => Loading::AsStored,
            Loading::Impossible if is_held && loads.checkpoints.contains(&wanted) => Loading::AsStored,
            found => found,
        };
    }
    if loads.files == Files::Gguf && !wanted.is_gguf() { Loading::Impossible } else { Loading::AsStored }
}

/// Whether a repository is known to hold a format, or its name says so.
fn says(place: &str, wanted: Precision) -> bool {
    let name = place.to_ascii_lowercase();
    let by_name = WORDS.iter().any(|(word, formats)| name.contains(word) && formats.contains(&wanted));
    by_name || catalog::is_checkpoint(place, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_says_by_its_name_what_it_holds() {
        use Precision::{AwqInt4, Bf16, Fp8, GptqInt4, Iq2Xs, Nvfp4, Q4KM};
        const BF16: Stored = Stored { precision: Some(Bf16), quantized: false };
        for (engine, place, wanted, expected) in [
            (Engine::Vllm, "a/b-AWQ-INT4", AwqInt4, Loading::AsStored),
            (Engine::Vllm, "a/b", AwqInt4, Loading::Impossible),
            (Engine::Vllm, "a/b", GptqInt4, Loading::Impossible),
            (Engine::Vllm, "a/b", Nvfp4, Loading::Impossible),
            (Engine::Vllm, "a/b-NVFP4", Nvfp4, Loading::AsStored),
            (Engine::Vllm, "a/b", Bf16, Loading::Cast(Bf16)),
            (Engine::Vllm, "a/b", Fp8, Loading::Quantize("fp8")),
            (Engine::Vllm, "a/b-FP8", Fp8, Loading::AsStored),
            (Engine::Vllm, "/models/x", AwqInt4, Loading::AsStored),
            (Engine::Vllm, "s3://bucket/x", AwqInt4, Loading::AsStored),
            (Engine::Vllm, "/models/x", Iq2Xs, Loading::Impossible),
            (Engine::Vllm, "/models/x", Q4KM, Loading::Impossible),
            (Engine::LlamaCpp, "/models/x.gguf", Q4KM, Loading::AsStored),
            (Engine::LlamaCpp, "/models/x.gguf", AwqInt4, Loading::Impossible),
        ] {
            assert_eq!(from_elsewhere(engine, place, BF16, wanted), expected, "{engine} {place} {wanted}");
        }
    }

    #[test]
    fn the_model_is_named_by_a_flag_or_by_the_first_word() {
        for (engine, args, expected) in [
            (Engine::Vllm, &["--model", "a/b"][..], Named::At("a/b")),
            (Engine::Vllm, &["--model"], Named::No),
            (Engine::Vllm, &["--model", ""], Named::At("")),
            (Engine::Vllm, &["a/b", "--seed", "1"], Named::At("a/b")),
            (Engine::Vllm, &["serve", "a/b"], Named::At("a/b")),
            (Engine::Vllm, &["serve"], Named::No),
            (Engine::Vllm, &["serve", "--seed=1"], Named::No),
            (Engine::Vllm, &["--seed", "1"], Named::No),
            (Engine::Sglang, &["a/b"], Named::No),
            (Engine::Sglang, &["--model=a/b"], Named::At("a/b")),
            (Engine::LlamaCpp, &["-m", "/models/a.gguf"], Named::At("/models/a.gguf")),
            (Engine::LlamaCpp, &["--hf-file", "a.gguf"], Named::No),
        ] {
            let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(named(engine, &args), expected, "{engine} {args:?}");
        }
    }
}
