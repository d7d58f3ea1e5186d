// Puts what an analysis left behind on one page.

include { SCGPT_REPORT } from '../modules/scgpttools/scgpt/report/main'

workflow REPORT {
    take:
    files // channel: run records, models, cells and tables

    main:
    // In an order of their own, so that a run that goes on finds the page done and the next run makes the same.
    all = files.toSortedList { a, b -> (a.name <=> b.name) ?: (a.size() <=> b.size()) ?: (a.toString() <=> b.toString()) }
    SCGPT_REPORT(all.map { found -> [[id: 'report'], found] })
    html = SCGPT_REPORT.out.html
    summary = SCGPT_REPORT.out.summary

    emit:
    html // channel: [meta, page]
    summary // channel: [meta, table for MultiQC]
}
