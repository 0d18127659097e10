//! Values by the places that another table gives out. It grows by chunks that stay where they are, as that table does.

/// Places of one chunk, as a power of two.
const CHUNK_BITS: u32 = 8;
const CHUNK_LEN: usize = 1 << CHUNK_BITS;

/// At most one value a place.
#[derive(Debug)]
pub(crate) struct Places<T> {
    chunks: Vec<Box<[Option<T>; CHUNK_LEN]>>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Places { chunks: Vec::new() }
    }
}

impl<T> Places<T> {
    /// Puts a value into a place, which is empty.
    pub(crate) fn put(&mut self, place: u32, value: T) {
        let chunk = (place >> CHUNK_BITS) as usize;
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || Box::new(std::array::from_fn(|_| None)));
        }
        let vacant = &mut self.chunks[chunk][place as usize % CHUNK_LEN];
        assert!(vacant.is_none(), "what a place held is taken out before it is given again");
        *vacant = Some(value);
    }

    #[inline]
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.chunks.get((place >> CHUNK_BITS) as usize)?[place as usize % CHUNK_LEN].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.chunks.get_mut((place >> CHUNK_BITS) as usize)?[place as usize % CHUNK_LEN].as_mut()
    }

    /// All values, by their places.
    #[cfg(any(test, feature = "epoll"))]
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    pub(crate) fn take(&mut self, place: u32) -> Option<T> {
        self.chunks.get_mut((place >> CHUNK_BITS) as usize)?[place as usize % CHUNK_LEN].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_at_its_place_until_it_is_taken() {
        let mut places = Places::default();
        assert_eq!(places.get(700), None);
        assert_eq!(places.take(700), None);
        for place in [0, 255, 256, 700] {
            places.put(place, place);
        }
        let first = places.get(0).map(std::ptr::from_ref);
        places.put(100_000, 1);
        assert_eq!(places.get(0).map(std::ptr::from_ref), first, "nothing was moved");
        assert_eq!((places.get(1), places.get(255), places.get(256)), (None, Some(&255), Some(&256)));
        assert!(places.values().eq(&[0, 255, 256, 700, 1]));
        if let Some(value) = places.get_mut(700) {
            *value = 7;
        }
        assert_eq!([places.take(700), places.take(700), places.take(699)], [Some(7), None, None]);
    }
}
