//! A table with one entry per byte value, and the folding of ASCII bytes. Unicode is in `chars`.

/// One value for each byte.
#[derive(Clone, Debug)]
pub(crate) struct ByteTable<T>([T; 256]);

impl<T: Copy> ByteTable<T> {
    /// All entries alike.
    pub(crate) const fn all(value: T) -> Self {
        Self([value; 256])
    }

    /// The entry of a byte.
    #[expect(clippy::indexing_slicing, reason = "a byte is always within 256 entries")]
    pub(crate) const fn get(&self, byte: u8) -> T {
        self.0[byte as usize]
    }

    /// Changes the entry of a byte.
    #[expect(clippy::indexing_slicing, reason = "a byte is always within 256 entries")]
    pub(crate) const fn set(&mut self, byte: u8, value: T) {
        self.0[byte as usize] = value;
    }
}

/// The small form of an ASCII letter, a blank for white space, anything else as it is.
pub(crate) const fn fold_ascii(byte: u8) -> u8 {
    match byte {
        9..=13 => b' ',
        _ => byte.to_ascii_lowercase(),
    }
}

/// [`fold_ascii`] as a table.
pub(crate) const FOLDED: ByteTable<u8> = {
    let mut table = ByteTable::all(0u8);
    let mut byte = 0u8;
    loop {
        table.set(byte, fold_ascii(byte));
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};
