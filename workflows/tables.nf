// Tables as texts.

// A row of a CSV file.
def csv(values) {
    return values.collect { value -> '"' + value.replace('"', '""') + '"' }.join(',') + '\n'
}

// The text of a table with tabs, with further columns before the others.
def labelled(table, columns) {
    return table
        .readLines()
        .withIndex()
        .collect { line, number -> ((number == 0 ? columns.keySet() : columns.values()) + [line]).join('\t') + '\n' }
        .join('')
}
