//! Writer of NumPy's .npy files, version 1.0 (format: numpy/lib/format.py).

use std::io::{self, Write};

/// Writes a row-major float32 matrix of shape [rows, columns], little-endian.
///
/// # Errors
/// If `values` does not have rows * columns elements, or the writer fails.
pub fn write_f32(out: &mut dyn Write, values: &[f32], rows: usize, columns: usize) -> io::Result<()> {
    if rows.checked_mul(columns) != Some(values.len()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "shape and number of values differ"));
    }
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic, version and length take 10 bytes; the data must start at a multiple of 64, after a line end.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    // Blocks keep the number of writes small without a second copy of the matrix.
    let mut block = Vec::with_capacity(4 * 16_384);
    for chunk in values.chunks(16_384) {
        block.clear();
        block.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
        out.write_all(&block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_starts_at_a_multiple_of_64_behind_a_padded_header() {
        let mut file = Vec::new();
        write_f32(&mut file, &[1.0, 2.0, 3.0, 4.0, 5.0, -6.0], 2, 3).expect("writes to memory");
        let header = u16::from_le_bytes([file[8], file[9]]) as usize;
        assert_eq!((10 + header) % 64, 0);
        let text = std::str::from_utf8(&file[10..10 + header]).expect("ASCII");
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
        assert!(text.ends_with('\n'));
        assert_eq!(&file[10 + header..14 + header], &1.0f32.to_le_bytes());
        assert_eq!(&file[file.len() - 4..], &(-6.0f32).to_le_bytes());
        assert!(write_f32(&mut file, &[1.0], 2, 3).is_err());
    }
}
