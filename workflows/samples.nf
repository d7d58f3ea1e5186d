// Rows of a sample sheet. Relative paths start at the sheet's folder.

workflow SAMPLES {
    take:
    sheet // CSV with the columns `sample` and `path`, and any others

    main:
    rows = channel.fromPath(sheet, checkIfExists: true)
        .splitCsv(header: true, strip: true)
        .toList()
        .flatMap { all -> all.collect { row -> checked(row, all, sheet) } }

    emit:
    rows // channel: [meta, file]; `meta` holds every column but `path`, with the sample's name as `id`
}

def checked(row, all, sheet) {
    if (!row.sample || !row.path) {
        error("`${sheet}`: every row needs a `sample` and a `path`, found ${row}")
    }
    if (!(row.sample ==~ /[A-Za-z0-9][A-Za-z0-9_.-]*/)) {
        error("`${sheet}`: sample `${row.sample}`: use letters, digits, `_`, `.` and `-` only, because files are named after it")
    }
    if (all.count { other -> other.sample == row.sample } > 1) {
        error("`${sheet}`: sample `${row.sample}` is there twice; name each file's sample differently")
    }
    def cells = row.path.contains('://') ? file(row.path) : file(sheet).resolveSibling(row.path)
    if (!cells.exists()) {
        error("`${sheet}`: sample `${row.sample}`: could not find `${cells}`")
    }
    return [row.findAll { column, _value -> column != 'path' } + [id: row.sample], cells]
}
