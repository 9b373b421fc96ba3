//! Writers of small weight files: only as much of the formats as tests need.

/// Writes a safetensors file: tensors of a name, a type and a shape, laid out one after the other.
pub(crate) fn safetensors(tensors: &[(&str, &str, &[u64])]) -> Vec<u8> {
    let mut offset = 0;
    let mut table = vec!["\"__metadata__\":{\"format\":\"pt\"}".to_owned()];
    for (name, dtype, shape) in tensors {
        let bits = match *dtype {
            "F4" => 4,
            "F6_E2M3" | "F6_E3M2" => 6,
            "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 8,
            "F16" | "BF16" | "I16" => 16,
            "F32" | "I32" | "U32" => 32,
            "F64" | "I64" => 64,
            other => panic!("{other} is not written here"),
        };
        let bytes = shape.iter().product::<u64>() * bits / 8;
        table.push(format!(
            "{name:?}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{offset},{}]}}",
            offset + bytes
        ));
        offset += bytes;
    }
    let mut json = format!("{{{}}}", table.join(","));
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut file = u64::try_from(json.len()).expect("short").to_le_bytes().to_vec();
    file.extend(json.into_bytes());
    file
}

/// A GGUF metadata value.
#[derive(Clone)]
pub(crate) enum Meta<'a> {
    U32(u32),
    Text(&'a str),
    Flags(&'a [bool]),
    Numbers(&'a [u32]),
    /// So many tokens.
    Tokens(u64),
}

/// Writes a GGUF header: metadata, and tensors of a name, a type number and dimensions with bytes per `block` elements.
pub(crate) struct Gguf {
    pub(crate) version: u32,
    pub(crate) metadata: Vec<u8>,
    pub(crate) pairs: u64,
    tensors: Vec<u8>,
    count: u64,
    offset: u64,
}

impl Gguf {
    pub(crate) fn new() -> Self {
        Self { version: 3, metadata: Vec::new(), pairs: 0, tensors: Vec::new(), count: 0, offset: 0 }
    }

    fn text(to: &mut Vec<u8>, text: &str) {
        to.extend(u64::try_from(text.len()).expect("short").to_le_bytes());
        to.extend(text.as_bytes());
    }

    pub(crate) fn meta(mut self, key: &str, value: &Meta<'_>) -> Self {
        let to = &mut self.metadata;
        Self::text(to, key);
        let array = |to: &mut Vec<u8>, kind: u32, length: usize| {
            to.extend(9_u32.to_le_bytes());
            to.extend(kind.to_le_bytes());
            to.extend(u64::try_from(length).expect("short").to_le_bytes());
        };
        match value {
            Meta::U32(value) => {
                to.extend(4_u32.to_le_bytes());
                to.extend(value.to_le_bytes());
            }
            Meta::Text(text) => {
                to.extend(8_u32.to_le_bytes());
                Self::text(to, text);
            }
            Meta::Flags(flags) => {
                array(to, 7, flags.len());
                to.extend(flags.iter().map(|&flag| u8::from(flag)));
            }
            Meta::Numbers(numbers) => {
                array(to, 4, numbers.len());
                to.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            }
            Meta::Tokens(count) => {
                array(to, 8, usize::try_from(*count).expect("short"));
                for token in 0..*count {
                    Self::text(to, &format!("t{token}"));
                }
            }
        }
        self.pairs += 1;
        self
    }

    /// `block` is the elements and the bytes of a block of the type.
    pub(crate) fn tensor(mut self, name: &str, kind: u32, block: (u64, u64), dimensions: &[u64]) -> Self {
        Self::text(&mut self.tensors, name);
        self.tensors.extend(u32::try_from(dimensions.len()).expect("few").to_le_bytes());
        for dimension in dimensions {
            self.tensors.extend(dimension.to_le_bytes());
        }
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(self.offset.to_le_bytes());
        self.offset =
            (self.offset + dimensions.iter().product::<u64>() / block.0 * block.1).next_multiple_of(32);
        self.count += 1;
        self
    }

    pub(crate) fn f32(self, name: &str, dimensions: &[u64]) -> Self {
        self.tensor(name, 0, (1, 4), dimensions)
    }

    pub(crate) fn f16(self, name: &str, dimensions: &[u64]) -> Self {
        self.tensor(name, 1, (1, 2), dimensions)
    }

    pub(crate) fn q4_k(self, name: &str, dimensions: &[u64]) -> Self {
        self.tensor(name, 12, (256, 144), dimensions)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.count.to_le_bytes());
        file.extend(self.pairs.to_le_bytes());
        file.extend(&self.metadata);
        file.extend(&self.tensors);
        file
    }
}

/// A Llama of so many layers, as llama.cpp's converter writes one: grouped-query attention, Q4_K matrices.
pub(crate) fn llama_gguf(layers: u32, tokens: u64) -> Gguf {
    let mut file = Gguf::new()
        .meta("general.architecture", &Meta::Text("llama"))
        .meta("general.file_type", &Meta::U32(15))
        .meta("llama.block_count", &Meta::U32(layers))
        .meta("llama.context_length", &Meta::U32(8192))
        .meta("llama.rope.scaling.original_context_length", &Meta::U32(2048))
        .meta("llama.embedding_length", &Meta::U32(1024))
        .meta("llama.feed_forward_length", &Meta::U32(4096))
        .meta("llama.attention.head_count", &Meta::U32(16))
        .meta("llama.attention.head_count_kv", &Meta::U32(4))
        .meta("tokenizer.ggml.tokens", &Meta::Tokens(tokens))
        .q4_k("token_embd.weight", &[1024, tokens])
        .f32("output_norm.weight", &[1024]);
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        file = file
            .f32(&name("attn_norm"), &[1024])
            .q4_k(&name("attn_q"), &[1024, 1024])
            .q4_k(&name("attn_k"), &[1024, 256])
            .q4_k(&name("attn_v"), &[1024, 256])
            .q4_k(&name("attn_output"), &[1024, 1024])
            .f32(&name("ffn_norm"), &[1024])
            .q4_k(&name("ffn_gate"), &[1024, 4096])
            .q4_k(&name("ffn_up"), &[1024, 4096])
            .q4_k(&name("ffn_down"), &[4096, 1024]);
    }
    file
}
