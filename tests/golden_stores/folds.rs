//! The sample of what folds over topics leave behind: images, stamps, floors, marks, cells.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use esker::backplane::{Append, Offset, Stamp, Step, StepDone, WriterId};
use esker::{At, ErrorKind, Facts, Fold, FoldOptions, Store, Topic, Verify};

use crate::{Copied, data, names, options};

const PATIENCE: Duration = Duration::from_secs(30);
const NUMBERS: Topic<u64> = Topic::new("number");
/// Who appended to the topic of the sample by hand.
const WRITER: WriterId = WriterId::from_raw(0x0102_0304_0506_0708);

/// A text of all numbers, so long that an image of it takes several pieces.
struct Text;
impl Fold for Text {
    type State = String;
    type Event = u64;
    const NAME: &'static str = "text";
    const VERSION: u32 = 3;
    fn fold(text: &mut String, number: u64, _: &At) {
        text.push_str(&format!("{number:060} "));
    }
}

fn text(numbers: std::ops::RangeInclusive<u64>) -> String {
    numbers.map(|number| format!("{number:060} ")).collect()
}

/// No pure function: which is found.
struct Impure;
impl Fold for Impure {
    type State = u64;
    type Event = u64;
    const NAME: &'static str = "impure";
    const VERSION: u32 = 1;
    fn fold(sum: &mut u64, _: u64, _: &At) {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        *sum += CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records with stamps, and one without; two images in pieces, a floor behind which the older one goes, the mark of a fold
/// that diverged, and cells, one of which holds nothing any more.
pub(crate) fn folds(path: &Path) {
    let store = Store::over(options().open(path).unwrap());
    let topic = store.topic(NUMBERS, "8812").unwrap();
    let fold = topic.fold_with::<Text>(FoldOptions::new().images_every(0)).unwrap();
    for number in 1..=28 {
        let offset = topic.append(&number).unwrap();
        if matches!(number, 10 | 20 | 24) {
            fold.read_after(offset, PATIENCE).unwrap();
            let saved = fold.save_image().unwrap();
            if number == 20 {
                topic.compact(saved).unwrap();
            }
        }
    }
    let plane = store.backplane().unwrap();
    let by_hand = Append::new(NUMBERS.name(), b"8813", &[1], Stamp::new(WRITER, 1)).schema(1);
    plane.commit(&[Step::Append(by_hand)]).unwrap();
    store.append(Facts::<u64>::new("number"), "8813", &2).unwrap();
    let other = store.topic(NUMBERS, "8813").unwrap();
    let verified = FoldOptions::new().images_every(0).verify(Verify::Each);
    let impure = other.fold_with::<Impure>(verified).unwrap();
    assert_eq!(impure.read().unwrap_err().kind(), ErrorKind::Halted);
    let cell = store.cells().scope("session").unwrap().cell::<u64>("count").unwrap();
    for count in [Some(1), Some(2), None] {
        cell.update(|_| Ok(count)).unwrap();
    }
    store.cells().cell::<u64>("count").unwrap().update(|_| Ok(Some(7))).unwrap();
    drop((fold, impure));
    store.close().unwrap();
}

#[test]
fn images_stamps_and_cells_of_an_older_build_still_count() {
    for format in names(&data()) {
        let copied = Copied::of(&data().join(format).join("folds"));
        let store = Store::over(options().open(copied.path()).unwrap());
        let topic = store.topic(NUMBERS, "8812").unwrap();
        let fold = topic.fold_with::<Text>(FoldOptions::new().images_every(0)).unwrap();
        assert_eq!(fold.read_after(topic.head().unwrap(), PATIENCE).unwrap().value, text(1..=28));
        let stats = fold.stats();
        assert_eq!((stats.images_used, stats.folded, stats.images_bad), (1, 4, 0), "{stats:?}");
        assert!(topic.read(Offset::BEGINNING).is_err_and(|error| error.kind() == ErrorKind::Lost));
        let other = store.topic(NUMBERS, "8813").unwrap();
        let impure = other.fold_with::<Impure>(FoldOptions::new()).unwrap();
        assert_eq!(impure.read().unwrap_err().kind(), ErrorKind::Halted, "the mark is gone");
        assert_eq!(other.compact(other.head().unwrap()).unwrap_err().kind(), ErrorKind::Halted);
        let mut read = other.read(Offset::BEGINNING).unwrap();
        let stamp = read.try_next().unwrap().unwrap().stamp();
        assert_eq!(stamp, Some(Stamp::new(WRITER, 1)));
        assert_eq!(read.try_next().unwrap().unwrap().stamp(), None);
        let again = Append::new(NUMBERS.name(), b"8813", &[1], Stamp::new(WRITER, 1)).schema(1);
        let done = store.backplane().unwrap().commit(&[Step::Append(again)]).unwrap();
        assert!(matches!(done.steps[..], [StepDone::Appended { repeated: true, .. }]), "{done:?}");
        let cell = store.cells().scope("session").unwrap().cell::<u64>("count").unwrap();
        let loaded = cell.load().unwrap();
        assert_eq!((loaded.value, loaded.revision.raw()), (None, 3));
        assert_eq!(store.cells().cell::<u64>("count").unwrap().load().unwrap().value, Some(7));
    }
}
