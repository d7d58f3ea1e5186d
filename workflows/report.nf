// Summarizes the outputs of an analysis in an HTML report.

include { SCGPT_REPORT } from '../modules/scgpttools/scgpt/report/main'

workflow REPORT {
    take:
    files // channel: run records, models, cells and tables

    main:
    // Sorted, so that a resumed run reuses the cached report.
    all = files.toSortedList { a, b -> (a.name <=> b.name) ?: (a.size() <=> b.size()) ?: (a.toString() <=> b.toString()) }
    SCGPT_REPORT(all.map { inputs -> [[id: 'report'], inputs] })
    html = SCGPT_REPORT.out.html
    summary = SCGPT_REPORT.out.summary

    emit:
    html // channel: [meta, report]
    summary // channel: [meta, table for MultiQC]
}
