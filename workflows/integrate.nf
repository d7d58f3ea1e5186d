// Brings the cells of all samples into one space: by a model that learns from them, or by one that learnt before.

include { SCGPT_INTEGRATE } from '../modules/scgpttools/scgpt/integrate/main'
include { csv             } from './tables'

workflow INTEGRATE {
    take:
    samples // channel: [meta, cells]; a sample may have a file for each modality
    name // of the results
    checkpoint // model to start from or to map with, or []

    main:
    all = samples.toList()
    sheet = all
        .map { rows ->
            def lines = rows.withIndex(1).collect { row, number ->
                def (meta, cells) = row
                csv(["input/${number}/${cells.name}", meta.id, meta.batch ?: '', meta.modality ?: ''])
            }
            (['path,sample,batch,modality\n'] + lines).join('')
        }
        .collectFile { text -> ["${name}.csv", text] }
    cells = all
        .map { rows -> [[id: name], rows.collect { row -> row[1] }] }
        .combine(sheet)
        .map { meta, files, table -> [meta, files, [], [], table] }
    SCGPT_INTEGRATE(cells, checkpoint)
    integrated = SCGPT_INTEGRATE.out.h5ad
    model = SCGPT_INTEGRATE.out.model
    scores = SCGPT_INTEGRATE.out.scores

    files = integrated
        .mix(model, scores, SCGPT_INTEGRATE.out.record)
        .map { _meta, file -> file }

    emit:
    files // channel: what the report is made of
    integrated // channel: [meta, cells of all samples]
    model // channel: [meta, folder]; empty where none was trained
    scores // channel: [meta, table]
}
