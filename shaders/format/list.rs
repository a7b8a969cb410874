// The block formats, one line each: the variant of `Format`, with its documentation, and the module and WGSL file that
// hold all else of it. The order is that of `Format as usize`. The library and the build script include this file.

/// Calls a macro with all block formats, after what it is given itself.
macro_rules! formats {
    ($call:ident $(, $given:tt)*) => {
        $call! {
            $($given)*
            /// 32-bit float.
            F32 f32,
            /// IEEE half.
            F16 f16,
            /// bfloat16.
            BF16 bf16,
            /// 32 weights of 4 bits, one f16 scale: 4.5 bits per weight.
            Q4_0 q4_0,
            /// 32 weights of 8 bits, one f16 scale: 8.5 bits per weight.
            Q8_0 q8_0,
            /// 256 weights of 4 bits, eight 6-bit scales and minima: 4.5 bits per weight.
            Q4_K q4_k,
            /// 32 weights of 4 bits, one f16 scale and minimum: 5 bits per weight.
            Q4_1 q4_1,
            /// 32 weights of 5 bits, one f16 scale: 5.5 bits per weight.
            Q5_0 q5_0,
            /// 32 weights of 5 bits, one f16 scale and minimum: 6 bits per weight.
            Q5_1 q5_1,
            /// 256 weights of 5 bits, eight 6-bit scales and minima: 5.5 bits per weight.
            Q5_K q5_k,
            /// 256 weights of 6 bits, sixteen 8-bit scales: 6.5625 bits per weight.
            Q6_K q6_k,
            /// 32 weights of 4 bits on uneven levels, one f16 scale: 4.5 bits per weight.
            IQ4_NL iq4_nl,
            /// 256 weights of 4 bits on uneven levels, eight 6-bit scales: 4.25 bits per weight.
            IQ4_XS iq4_xs,
            /// 32 floats of 4 bits, one power of two: 4.25 bits per weight.
            MXFP4 mxfp4,
            /// 256 weights of 2 bits, sixteen 4-bit scales and minima: 2.625 bits per weight.
            Q2_K q2_k,
            /// 256 weights of 3 bits, sixteen 6-bit scales: 3.4375 bits per weight.
            Q3_K q3_k,
        }
    };
}
