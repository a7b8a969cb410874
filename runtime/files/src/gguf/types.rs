//! The tensor types of ggml: ids, names and block sizes, so that any file can be walked.

use loam_shaders::Format;

/// A tensor type of ggml. A row (along `ne[0]`) is whole blocks of [`GgmlType::block_len`] weights, stored in
/// [`GgmlType::block_bytes`] bytes each. Removed ids (4, 5, 31 to 33, 36 to 38) and unknown ones have no variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs, reason = "ggml's own names, which are the documentation")]
pub enum GgmlType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ2_XXS,
    IQ2_XS,
    IQ3_XXS,
    IQ1_S,
    IQ4_NL,
    IQ3_S,
    IQ2_S,
    IQ4_XS,
    I8,
    I16,
    I32,
    I64,
    F64,
    IQ1_M,
    BF16,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
}

/// `(type, id, name, weights per block, bytes per block)`, in the order of the enum.
/// Source: `ggml-common.h`; NVFP4 as in newer ggml.
const TABLE: [(GgmlType, u32, &str, u64, u64); 33] = [
    (GgmlType::F32, 0, "f32", 1, 4),
    (GgmlType::F16, 1, "f16", 1, 2),
    (GgmlType::Q4_0, 2, "q4_0", 32, 18),
    (GgmlType::Q4_1, 3, "q4_1", 32, 20),
    (GgmlType::Q5_0, 6, "q5_0", 32, 22),
    (GgmlType::Q5_1, 7, "q5_1", 32, 24),
    (GgmlType::Q8_0, 8, "q8_0", 32, 34),
    (GgmlType::Q8_1, 9, "q8_1", 32, 36),
    (GgmlType::Q2_K, 10, "q2_k", 256, 84),
    (GgmlType::Q3_K, 11, "q3_k", 256, 110),
    (GgmlType::Q4_K, 12, "q4_k", 256, 144),
    (GgmlType::Q5_K, 13, "q5_k", 256, 176),
    (GgmlType::Q6_K, 14, "q6_k", 256, 210),
    (GgmlType::Q8_K, 15, "q8_k", 256, 292),
    (GgmlType::IQ2_XXS, 16, "iq2_xxs", 256, 66),
    (GgmlType::IQ2_XS, 17, "iq2_xs", 256, 74),
    (GgmlType::IQ3_XXS, 18, "iq3_xxs", 256, 98),
    (GgmlType::IQ1_S, 19, "iq1_s", 256, 50),
    (GgmlType::IQ4_NL, 20, "iq4_nl", 32, 18),
    (GgmlType::IQ3_S, 21, "iq3_s", 256, 110),
    (GgmlType::IQ2_S, 22, "iq2_s", 256, 82),
    (GgmlType::IQ4_XS, 23, "iq4_xs", 256, 136),
    (GgmlType::I8, 24, "i8", 1, 1),
    (GgmlType::I16, 25, "i16", 1, 2),
    (GgmlType::I32, 26, "i32", 1, 4),
    (GgmlType::I64, 27, "i64", 1, 8),
    (GgmlType::F64, 28, "f64", 1, 8),
    (GgmlType::IQ1_M, 29, "iq1_m", 256, 56),
    (GgmlType::BF16, 30, "bf16", 1, 2),
    (GgmlType::TQ1_0, 34, "tq1_0", 256, 54),
    (GgmlType::TQ2_0, 35, "tq2_0", 256, 66),
    (GgmlType::MXFP4, 39, "mxfp4", 32, 17),
    (GgmlType::NVFP4, 40, "nvfp4", 64, 36),
];

impl GgmlType {
    /// All types in order of their ids.
    pub fn all() -> impl Iterator<Item = GgmlType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type with ggml's number `id`; `None` for removed and unknown ones.
    pub fn from_id(id: u32) -> Option<GgmlType> {
        TABLE.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    /// ggml's number, as stored in files.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// Name in lower case: "f32", "q4_0", "q4_k", "iq4_nl".
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Weights per block.
    pub fn block_len(self) -> u64 {
        self.row().3
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> u64 {
        self.row().4
    }

    /// Bytes of `elements` weights in rows of whole blocks; `None` if they are no whole blocks or the size overflows.
    pub fn bytes(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The format that kernels compute with; `None` for types that can only be listed.
    pub fn format(self) -> Option<Format> {
        Format::from_ggml_id(self.id())
    }

    fn row(self) -> &'static (GgmlType, u32, &'static str, u64, u64) {
        &TABLE[self as usize]
    }
}

impl From<Format> for GgmlType {
    fn from(format: Format) -> GgmlType {
        GgmlType::from_id(format.ggml_id()).unwrap_or_else(|| panic!("{format} is not in the table"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_the_enum_and_ids_ascend() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i, "{}", row.2);
            assert_eq!(GgmlType::from_id(row.1), Some(row.0));
        }
        assert!(TABLE.windows(2).all(|pair| pair[0].1 < pair[1].1));
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 41, 99, u32::MAX] {
            assert_eq!(GgmlType::from_id(id), None);
        }
    }

    #[test]
    fn formats_agree_with_the_kernels_crate() {
        for format in Format::ALL {
            let ty = GgmlType::from(format);
            assert_eq!((ty.format(), ty.id(), ty.name()), (Some(format), format.ggml_id(), format.name()));
            assert_eq!(
                (ty.block_len(), ty.block_bytes()),
                (format.block_len() as u64, format.block_bytes() as u64),
                "{}",
                ty.name()
            );
        }
        assert_eq!(GgmlType::all().filter(|ty| ty.format().is_some()).count(), Format::ALL.len());
    }

    #[test]
    fn sizes_are_whole_blocks() {
        assert_eq!(GgmlType::Q4_K.bytes(512), Some(288));
        assert_eq!(GgmlType::Q4_K.bytes(128), None);
        assert_eq!(GgmlType::F64.bytes(u64::MAX), None);
    }
}
