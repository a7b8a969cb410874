//! What a device has for half precision.

use ::wgpu as api;
use loam_shaders::Need;

/// PCI vendor whose cooperative matrices are wrong on some devices (Xe3) and a thousand times slower than plain
/// arithmetic on others (Arc A770).
const INTEL: u32 = 0x8086;
/// PCI vendor some of whose drivers offer cooperative matrices on devices without the hardware. Mesa's does not.
const AMD: u32 = 0x1002;

/// What a device has for half precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    /// Rows and columns of its cooperative matrices, if they may be used.
    side: Option<u32>,
    /// Threads of four subgroups.
    pub lanes: u32,
}

impl Half {
    /// What `adapter` has. `None`: no `f16` at all.
    pub fn detect(adapter: &api::Adapter) -> Option<Self> {
        if !adapter.features().contains(api::Features::SHADER_F16) {
            return None;
        }
        let info = adapter.get_info();
        let lanes = 4 * info.subgroup_max_size;
        let features = api::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | api::Features::SUBGROUP;
        let limits = adapter.limits();
        let usable = adapter.features().contains(features)
            && trusted(&info)
            && (1..=limits.max_compute_invocations_per_workgroup).contains(&lanes)
            && limits.max_compute_workgroup_storage_size >= 32_768;
        let side = if usable { largest_side(&adapter.cooperative_matrix_properties()) } else { None };
        Some(Self { side, lanes })
    }

    /// As a list of features shows it.
    pub fn names(self) -> Vec<String> {
        let matrices = self.side.map(|side| format!("cooperative-matrix-{side}"));
        std::iter::once("f16".to_owned()).chain(matrices).collect()
    }

    /// What kernels can ask for.
    pub fn offers(self) -> Vec<Need> {
        std::iter::once(Need::Half).chain(self.side.map(Need::Cooperative)).collect()
    }

    /// Features to open the device with.
    pub fn features(self) -> api::Features {
        let matrices = api::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | api::Features::SUBGROUP;
        api::Features::SHADER_F16 | if self.side.is_some() { matrices } else { api::Features::empty() }
    }

    /// Leave to use cooperative matrices.
    pub fn experimental(self) -> api::ExperimentalFeatures {
        match self.side {
            // SAFETY: wgpu warns of holes in its checks; the kernels are part of this program and run without checks
            // anyway, and each is compared with the one it replaces before it is used.
            Some(_) => unsafe { api::ExperimentalFeatures::enabled() },
            None => api::ExperimentalFeatures::disabled(),
        }
    }
}

fn trusted(info: &api::AdapterInfo) -> bool {
    info.vendor != INTEL && (info.vendor != AMD || info.driver == "radv")
}

/// 16 or 8, if matrices of half precision with sums in single precision have that many rows, columns and steps.
fn largest_side(offered: &[api::CooperativeMatrixProperties]) -> Option<u32> {
    let fits = |side: u32| {
        offered.iter().any(|matrix| {
            [matrix.m_size, matrix.n_size, matrix.k_size] == [side; 3]
                && matrix.ab_type == api::CooperativeScalarType::F16
                && matrix.cr_type == api::CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(|&side| fits(side))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(sizes: [u32; 3], ab_type: api::CooperativeScalarType) -> api::CooperativeMatrixProperties {
        api::CooperativeMatrixProperties {
            m_size: sizes[0],
            n_size: sizes[1],
            k_size: sizes[2],
            ab_type,
            cr_type: api::CooperativeScalarType::F32,
            saturating_accumulation: false,
        }
    }

    #[test]
    fn square_matrices_of_half_precision_are_usable() {
        use api::CooperativeScalarType::{F16, F32};
        assert_eq!(largest_side(&[matrix([8; 3], F16), matrix([16; 3], F16)]), Some(16));
        assert_eq!(largest_side(&[matrix([16; 3], F32), matrix([8; 3], F16)]), Some(8));
        assert_eq!(largest_side(&[matrix([8, 16, 16], F16), matrix([8; 3], F32)]), None);
    }
}
