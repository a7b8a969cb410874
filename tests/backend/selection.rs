//! Devices by name: what is listed can be opened, and `auto` never takes a software rasteriser.

use loam::backend::{Backend, Kind, Options, select};
use pollster::block_on;

fn open(spec: &str) -> loam::Result<Box<dyn Backend>> {
    block_on(select::open(spec, &Options::default()))
}

#[test]
fn every_listed_device_opens_by_number_and_by_name() {
    let listed = block_on(select::devices()).unwrap();
    let gpus: Vec<_> = listed.iter().filter(|device| device.kind != Kind::Cpu).collect();
    if gpus.is_empty() {
        loam_tests::skipped("no adapter");
    }
    for (index, gpu) in gpus.iter().enumerate() {
        assert_eq!(open(&format!("gpu:{index}")).unwrap().info().name, gpu.name);
        assert_eq!(open(&gpu.name.to_uppercase()).unwrap().info().name, gpu.name);
        assert!(gpu.limits.max_binding_bytes >= 1 << 27 && gpu.limits.max_buffer_bytes >= 1 << 28, "{gpu:?}");
    }
    assert_eq!(listed.last().map(|device| device.kind), Some(Kind::Cpu));
    assert_eq!(open("cpu").unwrap().info().kind, Kind::Cpu);
    assert_ne!(open("auto").unwrap().info().kind, Kind::Software);
}

#[test]
fn unknown_devices_are_errors_that_list_the_known() {
    for spec in ["gpu:99", "cuda", "no such device"] {
        let error = open(spec).map(drop).unwrap_err().to_string();
        assert!(error.contains(spec) && error.contains("choose one of: auto, cpu"), "{error}");
    }
}
