//! The cache of some layers, as their engine sizes it: layer by layer, or in vLLM's pools.

use super::by_layer::Cache;
use super::packed;
use super::paged;
use crate::estimate::parallelism::Stage;
use crate::estimate::{EstimateError, bytes_of};
use crate::model::{CacheKind, Layer, ModelShape};
use crate::precision::Engine;
use crate::units::{Bytes, Overflow};

impl Cache {
    /// The caches on one GPU of a stage.
    ///
    /// # Errors
    /// An overflow.
    pub(crate) fn stage(&self, shape: &ModelShape, stage: &Stage) -> Result<Bytes, EstimateError> {
        let layers: Vec<&Layer> = stage.caches(&shape.layers).collect();
        let own = self.layers(shape, &layers)?;
        Ok(bytes_of(own.checked_add(self.cross_attention(shape, &layers)?).ok_or(Overflow)?)?)
    }

    /// What these layers keep of the sequences on one rank.
    pub(crate) fn layers(&self, shape: &ModelShape, layers: &[&Layer]) -> Result<u128, Overflow> {
        if self.engine == Engine::Vllm {
            let packed = layers.iter().filter_map(|layer| Some(layer.attention?.cache));
            let packed: Vec<CacheKind> =
                packed.filter(|cache| matches!(cache, CacheKind::Compressed { .. })).collect();
            let pages = paged::pool(self, shape, layers)?;
            pages.checked_add(packed::pool(self, &packed)?).ok_or(Overflow)
        } else {
            self.by_layer(shape, layers)
        }
    }
}
