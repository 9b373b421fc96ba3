//! How much memory a shape takes, so that what keeps shapes can be bounded.

use std::mem::size_of;

use super::{Layer, ModelShape, Tensor};

impl ModelShape {
    /// The bytes that it takes in memory, its own and what it points to; what an allocator adds is not counted.
    #[must_use]
    pub fn size(&self) -> u64 {
        let tensors = self.tensors.capacity() * size_of::<Tensor>()
            + self.tensors.iter().map(|tensor| tensor.name.capacity()).sum::<usize>();
        let layers = (self.layers.capacity() + self.draft_layers.capacity()) * size_of::<Layer>();
        let notes = strings(&self.notes);
        let ignored = self.quantization.as_ref().map_or(0, |quantization| strings(&quantization.ignored));
        let own = size_of::<Self>() + self.name.capacity() + self.architecture.capacity();
        u64::try_from(own + tensors + layers + notes + ignored).unwrap_or(u64::MAX)
    }
}

fn strings(texts: &Vec<String>) -> usize {
    texts.capacity() * size_of::<String>() + texts.iter().map(String::capacity).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use crate::model::catalog;

    #[test]
    fn it_is_what_is_allocated() {
        for entry in ["llama-3.1-8b", "mixtral-8x7b"] {
            let mut shape = None;
            let taken = allocation_counter::measure(|| {
                shape = catalog::shape(entry).map(|mut shape| {
                    shape.tensors.shrink_to_fit();
                    shape
                });
            });
            let size = shape.expect("in the catalog").size();
            let kept = u64::try_from(taken.bytes_current).expect("nothing is freed that was there before");
            // The first call may fill a table that stays.
            assert!(size <= kept + 1024 && size > 1024, "{entry}: {size} of {kept} bytes");
        }
    }
}
