// Rows of a sample sheet. Relative paths start at the sheet's folder.

workflow SAMPLES {
    take:
    sheet // CSV with the columns `sample` and `path`, and any others
    unique // columns that together tell the rows apart

    main:
    rows = channel.fromPath(sheet, checkIfExists: true)
        .splitCsv(header: true, strip: true)
        .toList()
        .flatMap { all ->
            // An error that a function throws would reach nobody but the log.
            def wrong = all.findResult { row -> problem(row, all, sheet, unique) }
            if (wrong) {
                error("`${sheet}`: ${wrong}")
            }
            all.collect { row -> [row.findAll { column, _value -> column != 'path' } + [id: row.sample], located(row, sheet)] }
        }

    emit:
    rows // channel: [meta, file]; `meta` holds every column but `path`, with the sample's name as `id`
}

// What is wrong with a row, or null.
def problem(row, all, sheet, unique) {
    if (!row.sample || !row.path) {
        return "every row needs a `sample` and a `path`, found ${row}"
    }
    if (!(row.sample ==~ /[A-Za-z0-9][A-Za-z0-9_.-]*/)) {
        return "sample `${row.sample}`: use letters, digits, `_`, `.` and `-` only, because files are named after it"
    }
    if (all.count { other -> unique.every { column -> other[column] == row[column] } } > 1) {
        def twice = unique.findAll { column -> row[column] }.collect { column -> "${column} `${row[column]}`" }.join(' with ')
        return "${twice} is there twice; name each file's sample differently"
    }
    def cells = located(row, sheet)
    return cells.exists() ? null : "sample `${row.sample}`: could not find `${cells}`"
}

def located(row, sheet) {
    return row.path.contains('://') ? file(row.path) : file(sheet).resolveSibling(row.path)
}
