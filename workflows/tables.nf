// Helpers for text tables.

// One row of a CSV file.
def csv(values) {
    return values.collect { value -> '"' + value.replace('"', '""') + '"' }.join(',') + '\n'
}

// A tab-separated table with further columns in front.
def labeled(table, columns) {
    return table
        .readLines()
        .withIndex()
        .collect { line, number -> ((number == 0 ? columns.keySet() : columns.values()) + [line]).join('\t') + '\n' }
        .join('')
}
