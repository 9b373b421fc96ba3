//! What holds of every flag of every table.

use proptest::prelude::*;
use proptest::sample::select;

use super::combine::combine;
use super::loading::Loading;
use super::read::{Told, read};
use super::table::{Choice, Entry, Kind, Says, Values};
use super::tables;
use super::write::{Weights, own};
use crate::api::v1alpha1::EngineSpec;
use crate::estimate::{Options, Workload};
use crate::precision::{CachePrecision, Engine};

/// A workload, and the arguments that say its options.
fn workloads() -> impl Strategy<Value = (Workload, Vec<String>)> {
    let engines = select(vec![Engine::Vllm, Engine::Sglang, Engine::LlamaCpp, Engine::Tgi]);
    let sizes = (
        1_u64..200_000,
        1_u64..64,
        prop::option::of(1_u64..512),
        1_u64..9,
        1_u64..4,
        1_u64..5,
        prop::option::of(1_u64..9000),
    );
    (engines, sizes, any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(engine, (context, sequences, cap, tensor, pipeline, data, batched_tokens), cache, which)| {
            let table = tables::of(engine);
            let caches: Vec<CachePrecision> = CachePrecision::ALL
                .iter()
                .copied()
                .filter(|cache| table.cache_flag().is_some_and(|flag| flag.cache_name(*cache).is_some()))
                .chain([CachePrecision::Auto])
                .collect();
            let extra: Vec<String> = extra(engine, which).into_iter().map(str::to_owned).collect();
            let mut options = told(engine, &extra).options;
            options.sequence_cap = cap.map(|cap| cap + sequences).filter(|_| engine != Engine::LlamaCpp);
            let sequences = if options.unified_slots.is_some() { 1 } else { sequences };
            let data = if table.cap_of_group.is_some() { data } else { 1 };
            // What a cap comes to for each group is a whole number.
            options.sequence_cap = options.sequence_cap.map(|cap| cap * data);
            let workload = Workload {
                precision: None,
                context: Some(context),
                sequences,
                cache_precision: caches[cache.index(caches.len())],
                tensor,
                pipeline: if table.stages { pipeline } else { 1 },
                data,
                engine,
                batched_tokens: batched_tokens.filter(|_| engine != Engine::LlamaCpp),
                options,
                training: None,
            };
            (workload, extra)
        },
    )
}

/// Some of an engine's options, as a user writes them.
fn extra(engine: Engine, which: u8) -> Vec<&'static str> {
    let all: &[&[&str]] = match engine {
        Engine::Vllm => &[
            &["--enable-lora", "--max-loras=2"],
            &["--enforce_eager"],
            &["-ep"],
            &["--no-enable-prefix-caching"],
            &["--language-model-only"],
            &["--speculative-config", "{\"method\": \"mtp\"}"],
        ],
        Engine::Sglang => &[
            &["--enable-lora", "--max-lora-rank", "16"],
            &["--disable-cuda-graph"],
            &["--ep", "2"],
            &["--speculative-algorithm=EAGLE"],
            &["--enable-dp-attention"],
        ],
        Engine::LlamaCpp => &[&["-ngl", "20"], &["--n-cpu-moe=4"], &["-cmoe"], &["-kvu"], &["--no-mmproj"]],
        Engine::Tgi => &[&["--cuda-graphs", "0"], &["--speculate=2"]],
        Engine::Transformers | Engine::None => &[],
    };
    let chosen = all.iter().enumerate().filter(|(at, _)| which & (1 << at) != 0);
    chosen.flat_map(|(_, words)| words.iter().copied()).collect()
}

fn told(engine: Engine, arguments: &[String]) -> Told {
    read(&EngineSpec { name: engine, image: None, version: None, args: Some(arguments.to_vec()) })
        .expect("valid arguments")
}

fn says(engine: Engine, wanted: fn(&Says) -> bool) -> bool {
    tables::of(engine).flags.iter().any(|entry| wanted(&entry.says))
}

proptest! {
    /// Whoever reads what was written finds the workload that it was written for.
    #[test]
    fn what_is_written_is_read_again((workload, extra) in workloads()) {
        let engine = workload.engine;
        let own = own(&workload, &Weights::Unsaid, Loading::AsStored).expect("a workload of the engine");
        let held = super::write::held(tables::of(engine), &workload);
        let arguments = combine(own, &extra, held).expect("no contradiction");
        let told = told(engine, &arguments);
        prop_assert_eq!(told.context.map(|said| said.value), workload.context);
        if engine == Engine::LlamaCpp {
            let own = Some(workload.sequences).filter(|_| workload.options.unified_slots.is_none());
            prop_assert_eq!(told.sequences.map(|said| said.value), own);
        } else {
            let groups = if super::write::caps_each_group(&workload) { workload.data } else { 1 };
            prop_assert_eq!(told.sequence_cap.map(|said| said.value), Some(workload.running().div_ceil(groups)));
            prop_assert!(told.sequences.is_none());
        }
        if says(engine, |says| matches!(says, Says::Tensor)) {
            prop_assert_eq!(told.tensor.map(|said| said.value), Some(workload.tensor));
        }
        if says(engine, |says| matches!(says, Says::Pipeline)) {
            prop_assert_eq!(told.pipeline.map(|said| said.value), Some(workload.pipeline));
        }
        prop_assert_eq!(told.data.map_or(1, |said| said.value), workload.data);
        let untold = tables::of(engine).untold_caches.contains(&workload.cache_precision);
        let cache = Some(workload.cache_precision).filter(|_| !untold);
        prop_assert_eq!(told.cache_precision.map(|said| said.value), cache);
        prop_assert_eq!(told.batched_tokens, workload.batched_tokens);
        prop_assert_eq!(told.options, Options { sequence_cap: None, ..workload.options.clone() });
        // Written once more, beside itself, it is the same.
        let again = super::write::own(&workload, &Weights::Unsaid, Loading::AsStored).expect("as before");
        let twice = combine(again, &arguments, held).expect("no contradiction");
        prop_assert_eq!(twice, arguments);
    }
}

/// A value that a flag takes.
fn sample(entry: &Entry) -> &'static str {
    match (entry.says, entry.values) {
        (Says::Copies | Says::DataHere, _) => "1",
        (Says::Choice(Choice::Speculation), Values::Text) => "NGRAM",
        (_, Values::Caches(names)) => names[0].0,
        (_, Values::Dtypes(names)) => names[names.len() - 1].0,
        (_, Values::Fraction) => "0.95",
        (_, Values::Json) => "{\"method\": \"mtp\"}",
        (_, Values::Switch) => "true",
        (_, Values::Number { .. } | Values::Text) => "4",
    }
}

/// What arguments say, without the words in which they say it.
fn meaning(engine: Engine, arguments: &[String], name: &str) -> String {
    let spec = EngineSpec { name: engine, image: None, version: None, args: Some(arguments.to_vec()) };
    match read(&spec) {
        Err(refusal) => refusal.to_string().replace(name, "FLAG"),
        Ok(told) => format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            told.context.map(|said| said.value),
            told.sequences.map(|said| said.value),
            told.sequence_cap.map(|said| said.value),
            told.cache_tokens.map(|said| said.value),
            told.cache_precision.map(|said| said.value),
            told.tensor.map(|said| said.value),
            (told.pipeline.map(|said| said.value), told.data.map(|said| said.value)),
            told.precision.map(|said| said.value),
            told.batched_tokens,
            told.options,
        ),
    }
}

#[test]
fn every_spelling_of_a_flag_is_read_the_same() {
    let mut spellings = 0;
    for &engine in Engine::ALL {
        for entry in tables::of(engine).flags {
            let value = sample(entry);
            let expected = meaning(engine, &[entry.name().to_owned(), value.to_owned()], entry.name());
            for name in entry.names {
                let (dashes, rest) = name.split_at(name.find(|c| c != '-').expect("a name"));
                for spelled in [(*name).to_owned(), format!("{dashes}{}", rest.replace('-', "_"))] {
                    for arguments in
                        [vec![spelled.clone(), value.to_owned()], vec![format!("{spelled}={value}")]]
                    {
                        assert_eq!(meaning(engine, &arguments, name), expected, "{engine} {arguments:?}");
                        spellings += 1;
                    }
                }
            }
        }
    }
    assert!(spellings > 300, "{spellings}");
}

#[test]
fn no_name_stands_for_two_flags() {
    for &engine in Engine::ALL {
        let mut names: Vec<&str> =
            tables::of(engine).flags.iter().flat_map(|entry| entry.names.iter().copied()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{engine}");
    }
}

/// What the estimate takes an engine's caches to be is what can be asked of it.
#[test]
fn the_caches_that_are_written_are_those_that_are_estimated() {
    for engine in [Engine::Vllm, Engine::Sglang, Engine::LlamaCpp, Engine::Tgi] {
        let table = tables::of(engine);
        for cache in CachePrecision::ALL {
            let asked = table.untold_caches.contains(cache)
                || table.cache_flag().is_some_and(|flag| flag.cache_name(*cache).is_some());
            // vLLM's 8-bit integers are for releases after the one that is pinned.
            let is_later = engine == Engine::Vllm && *cache == CachePrecision::Int8;
            assert_eq!(asked || is_later, engine.cache_precisions().contains(cache), "{engine} {cache}");
        }
    }
}

/// A slot of llama.cpp has its share of the context; of the others nobody has one until it comes.
#[test]
fn sequences_are_caps_but_where_the_context_is_divided() {
    for engine in [Engine::Vllm, Engine::Sglang, Engine::LlamaCpp, Engine::Tgi] {
        let kinds = tables::of(engine).flags.iter().filter(|entry| matches!(entry.says, Says::Sequences));
        let expected = if engine == Engine::LlamaCpp { Kind::Reservation } else { Kind::Cap };
        for entry in kinds {
            assert_eq!(entry.kind, expected, "{engine} {}", entry.name());
        }
    }
}
