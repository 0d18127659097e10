//! A list of names in one piece of memory, so that a reused list allocates nothing.

/// Names in the order they were pushed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    text: String,
    ends: Vec<usize>,
}

/// By hand, because a derived `clone_from` would not use the memory that is there.
impl Clone for Names {
    fn clone(&self) -> Names {
        Names { text: self.text.clone(), ends: self.ends.clone() }
    }

    fn clone_from(&mut self, other: &Names) {
        self.text.clone_from(&other.text);
        self.ends.clone_from(&other.ends);
    }
}

impl Names {
    pub(crate) fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    /// The names, together.
    pub(crate) fn len_bytes(&self) -> usize {
        self.text.len()
    }

    /// The memory they have, which a cleared list keeps.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end])
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Names {
        let mut list = Names::default();
        names.into_iter().for_each(|name| list.push(name));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_went_in() {
        for row in [&[][..], &[""], &["a"], &["a", "", "bc"], &["é", "😀"]] {
            let names: Names = row.iter().copied().collect();
            assert_eq!(names.iter().collect::<Vec<_>>(), row);
        }
    }
}
