//! The element type of a cache.

use crate::estimate::Workload;
use crate::estimate::weights::loading::Loading;
use crate::model::{CacheKind, Layer, ModelShape};
use crate::precision::{CachePrecision, Engine, Precision};
use crate::units::Overflow;

/// An element type of the cache: so many bytes for so many elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) bytes: u64,
    pub(crate) per: u64,
}

impl Element {
    pub(crate) fn of(self, elements: u128) -> Result<u128, Overflow> {
        let bytes = elements.checked_mul(u128::from(self.bytes)).ok_or(Overflow)?;
        Ok(bytes.div_ceil(u128::from(self.per.max(1))))
    }
}

/// Bytes of an element: floating and integer types by their bits, llama.cpp's by their blocks of 32 (ggml-common.h).
pub(crate) const fn element_of(precision: CachePrecision) -> Element {
    match precision {
        CachePrecision::Fp32 => Element { bytes: 4, per: 1 },
        CachePrecision::Auto | CachePrecision::Fp16 | CachePrecision::Bf16 => Element { bytes: 2, per: 1 },
        CachePrecision::Fp8 | CachePrecision::Int8 => Element { bytes: 1, per: 1 },
        CachePrecision::Q80 => Element { bytes: 34, per: 32 },
        CachePrecision::Q51 => Element { bytes: 24, per: 32 },
        CachePrecision::Q50 => Element { bytes: 22, per: 32 },
        CachePrecision::Q41 => Element { bytes: 20, per: 32 },
        CachePrecision::Q40 => Element { bytes: 18, per: 32 },
    }
}

/// The cache's element type, `auto` resolved: the checkpoint's wish, else llama.cpp's f16, else the model's own type.
pub(crate) fn resolve(shape: &ModelShape, workload: &Workload, loading: &Loading) -> CachePrecision {
    if workload.cache_precision != CachePrecision::Auto {
        return workload.cache_precision;
    }
    if workload.engine == Engine::LlamaCpp {
        return CachePrecision::Fp16;
    }
    // DeepSeek-V4's kernels have a layout of their own, which is of 8 bits (vLLM's `_resolve_dsv4_kv_cache_dtype`).
    let is_compressed = |layer: &Layer| {
        matches!(layer.attention.map(|attention| attention.cache), Some(CacheKind::Compressed { .. }))
    };
    if workload.engine == Engine::Vllm && shape.layers.iter().any(is_compressed) {
        return CachePrecision::Fp8;
    }
    let wish = shape.quantization.as_ref().and_then(|quantization| quantization.cache_precision);
    match wish.filter(|wish| *wish != CachePrecision::Auto) {
        Some(wish) => wish,
        None if loading.element_bytes() == 4 => CachePrecision::Fp32,
        None if loading.precision == Precision::Fp16 => CachePrecision::Fp16,
        None => CachePrecision::Bf16,
    }
}
