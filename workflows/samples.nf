// Rows of a sample sheet. Paths are relative to the directory of the sheet.

workflow SAMPLES {
    take:
    sheet // CSV with the columns `sample` and `path`, and any others
    unique // columns that together identify a row

    main:
    rows = channel.fromPath(sheet, checkIfExists: true)
        .splitCsv(header: true, strip: true)
        .toList()
        .flatMap { all ->
            // Errors thrown inside functions would only reach the log.
            def invalid = all.findResult { row -> problem(row, all, sheet, unique) }
            if (invalid) {
                error("`${sheet}`: ${invalid}")
            }
            all.collect { row -> [row.findAll { column, _value -> column != 'path' } + [id: row.sample], located(row, sheet)] }
        }

    emit:
    rows // channel: [meta, file]; `meta` has every column but `path`, and the sample name as `id`
}

// Error in a row of the sample sheet, or null.
def problem(row, all, sheet, unique) {
    if (!row.sample || !row.path) {
        return "every row needs a `sample` and a `path`, found ${row}"
    }
    if (!(row.sample ==~ /[A-Za-z0-9][A-Za-z0-9_.-]*/)) {
        return "sample `${row.sample}`: use letters, digits, `_`, `.` and `-` only, because files are named after it"
    }
    if (all.count { other -> unique.every { column -> other[column] == row[column] } } > 1) {
        def duplicate = unique.findAll { column -> row[column] }.collect { column -> "${column} `${row[column]}`" }.join(' with ')
        return "${duplicate} is listed twice; give each file its own sample name"
    }
    def cells = located(row, sheet)
    return cells.exists() ? null : "sample `${row.sample}`: could not find `${cells}`"
}

def located(row, sheet) {
    return row.path.contains('://') ? file(row.path) : file(sheet).resolveSibling(row.path)
}
