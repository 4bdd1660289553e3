//! Lists of borrowed slices that keep their memory from run to run, for a run allocates nothing.

/// The lists of a run.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub inputs: List<&'static [u8]>,
    pub outputs: List<&'static mut [u8]>,
    pub taken: List<&'static mut [u8]>,
}

/// The memory of a list between two uses of it.
#[derive(Debug)]
pub(super) struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List(Vec::new())
    }
}

/// An empty list in the memory of another: collecting a vector's own iterator keeps its memory.
fn emptied<T, U>(mut list: Vec<T>) -> Vec<U> {
    list.clear();
    list.into_iter().map(|_| unreachable!("it is empty")).collect()
}

impl List<&'static [u8]> {
    pub fn empty<'a>(&mut self) -> Vec<&'a [u8]> {
        emptied(std::mem::take(&mut self.0))
    }
    pub fn keep(&mut self, list: Vec<&[u8]>) {
        self.0 = emptied(list);
    }
}

impl List<&'static mut [u8]> {
    pub fn empty<'a>(&mut self) -> Vec<&'a mut [u8]> {
        emptied(std::mem::take(&mut self.0))
    }
    pub fn keep(&mut self, list: Vec<&mut [u8]>) {
        self.0 = emptied(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_memory() {
        let mut kept = List::<&'static [u8]>::default();
        let mut list = kept.empty();
        list.extend([&[1u8][..]; 20]);
        let place = list.as_ptr();
        kept.keep(list);
        let list = kept.empty();
        assert_eq!((list.as_ptr(), list.len()), (place, 0));
        assert!(list.capacity() >= 20);
    }
}
