//! CRC32C, from the polynomial in the introduction of spec.md.

const POLYNOMIAL_REFLECTED: u32 = 0x82F6_3B78;

/// Eight tables, so that eight bytes are taken at once: cases send batches of 16 MiB.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut i = 0;
    while i < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL_REFLECTED } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut i = 0;
    while i < 256 {
        let mut k = 1;
        while k < 8 {
            let before = tables[k - 1][i];
            tables[k][i] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            k += 1;
        }
        i += 1;
    }
    tables
}

/// CRC32C of the parts, one after another.
#[must_use]
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(u32::MAX, |crc, part| update(crc, part))
}

fn update(mut crc: u32, bytes: &[u8]) -> u32 {
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let low = crc.to_le_bytes();
        crc = (0..8).fold(0, |sum, i| {
            let byte = if i < 4 { chunk[i] ^ low[i] } else { chunk[i] };
            sum ^ TABLES[7 - i][usize::from(byte)]
        });
    }
    for byte in chunks.remainder() {
        crc = crc >> 8 ^ TABLES[0][((crc & 0xFF) ^ u32::from(*byte)) as usize];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_page_comes_out() {
        assert_eq!(crc32c(&[b"123456789"]), 0xE306_9283);
        assert_eq!(crc32c(&[b"123", b"", b"456789"]), 0xE306_9283);
    }
}
