// Integrates all samples: trains a model on them, or maps them with a trained one.

include { SCGPT_INTEGRATE } from '../modules/scgpttools/scgpt/integrate/main'
include { csv             } from './tables'

workflow INTEGRATE {
    take:
    samples // channel: [meta, cells]; a sample may have a file for each modality
    name // name of the results
    checkpoint // initial weights, or the model to map with, or []

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
    metrics = SCGPT_INTEGRATE.out.metrics

    files = integrated
        .mix(model, metrics, SCGPT_INTEGRATE.out.record)
        .map { _meta, file -> file }

    emit:
    files // channel: inputs of the report
    integrated // channel: [meta, cells of all samples]
    model // channel: [meta, directory]; empty without training
    metrics // channel: [meta, table]
}
