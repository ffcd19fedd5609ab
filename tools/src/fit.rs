//! How a table comes to fit a terminal: which of its columns are cut, and which are left out.

/// What a cut cell is left at least: of a time its day, and the mark that it was cut.
const LEAST: usize = 11;
/// The same of the first one, which says what the row is about.
const LEAST_OF_NAME: usize = 24;
/// Between two columns of a table that has to fit.
pub(crate) const BLANK: usize = 1;

/// A column: how wide it is by itself, and whether its cells may be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) width: usize,
    pub(crate) may_be_cut: bool,
}

/// How wide the columns are on a line of so many places, from the first to the last that is on it. Behind the last there is a
/// mark where others are left out.
///
/// The widest are cut first, and what says of which thing a row is, its first cell, last. Numbers never are: where that does
/// not do, columns are left out from the right.
pub(crate) fn fit(columns: &[Column], line: usize) -> Vec<usize> {
    for kept in (1..=columns.len()).rev() {
        let mark = if kept < columns.len() { 1 + BLANK } else { 0 };
        let columns = columns.get(..kept).unwrap_or_default();
        let widths = cut(columns, line.saturating_sub(mark));
        if kept == 1 || total(&widths) + mark <= line {
            return widths;
        }
    }
    Vec::new()
}

/// The widest columns narrower, until they fit or are as narrow as they get.
fn cut(columns: &[Column], line: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.width).collect();
    let mut over = total(&widths).saturating_sub(line);
    while over > 0 {
        let others = widths.iter_mut().zip(columns).skip(1);
        let wide = others.filter(|(width, column)| column.may_be_cut && **width > LEAST);
        let Some((widest, _)) = wide.max_by_key(|(width, _)| **width) else { break };
        *widest -= 1;
        over -= 1;
    }
    if let Some(first) = widths.first_mut().filter(|_| columns.first().is_some_and(|first| first.may_be_cut))
    {
        *first = first.saturating_sub(over).max(LEAST_OF_NAME.min(*first));
    }
    widths
}

/// The places that columns take, with what is between them.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + BLANK * widths.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(widths: &[(usize, bool)]) -> Vec<Column> {
        widths.iter().map(|(width, may_be_cut)| Column { width: *width, may_be_cut: *may_be_cut }).collect()
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let all = columns(&[(10, true), (30, true), (5, false)]);
        assert_eq!(fit(&all, 47), [10, 30, 5]);
    }

    #[test]
    fn the_widest_columns_are_cut_first_and_numbers_never() {
        let all = columns(&[(40, true), (30, true), (25, true), (20, false)]);
        assert_eq!(fit(&all, 113), [40, 25, 25, 20]);
        assert_eq!(fit(&all, 103), [40, 20, 20, 20]);
    }

    #[test]
    fn columns_are_left_out_from_the_right_where_cutting_does_not_do() {
        let all = columns(&[(10, true), (12, false), (30, true), (9, false)]);
        // All but the last, of which there is a mark.
        assert_eq!(fit(&all, 38), [10, 12, 12]);
        assert_eq!(fit(&all, 37), [10, 12, 11]);
        assert_eq!(fit(&all, 25), [10, 12]);
        assert_eq!(fit(&all, 3), [10]);
    }

    #[test]
    fn the_first_is_cut_before_a_column_is_left_out() {
        let all = columns(&[(100, true), (6, false), (20, true)]);
        assert_eq!(fit(&all, 80), [61, 6, 11]);
        assert_eq!(fit(&all, 40), [31, 6]);
        let all = columns(&[(100, false), (6, false)]);
        assert_eq!(fit(&all, 80), [100]);
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let all = columns(&[(40, true), (30, true), (9, false), (20, true), (20, true), (4, false)]);
        for line in 26..140 {
            let widths = fit(&all, line);
            let mark = if widths.len() < all.len() { 2 } else { 0 };
            assert!(total(&widths) + mark <= line, "{widths:?} on {line}");
        }
    }
}
