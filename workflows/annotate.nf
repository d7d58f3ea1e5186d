// Annotates many samples in parallel with one model, which is trained on a reference first unless it is given.

include { SCGPT_FINETUNEANNOTATION } from '../modules/scgpttools/scgpt/finetuneannotation/main'
include { SCGPT_ANNOTATE           } from '../modules/scgpttools/scgpt/annotate/main'

workflow ANNOTATE {
    take:
    samples // channel: [meta, cells]
    model // folder of a fine-tuned model, or null
    reference // labelled cells, or null
    labels // column of the reference that holds the cell types
    checkpoint // pre-trained model to start training from, or []

    main:
    if (model) {
        trained = channel.value([[id: file(model).name], file(model, checkIfExists: true)])
    }
    else {
        SCGPT_FINETUNEANNOTATION(
            channel.value([[id: 'model'], file(reference, checkIfExists: true)]),
            labels,
            checkpoint,
        )
        trained = SCGPT_FINETUNEANNOTATION.out.model
    }
    SCGPT_ANNOTATE(samples, trained)
    annotated = SCGPT_ANNOTATE.out.h5ad
    rows = SCGPT_ANNOTATE.out.record.map { meta, record ->
        def metrics = new groovy.json.JsonSlurper().parse(record).metrics ?: [:]
        def types = (metrics.types ?: [:]).collect { type, cells -> "${type}: ${cells}" }.join('; ')
        [meta.id, metrics.cells, metrics.unassigned, metrics.genes_matched, metrics.genes_of_the_model, metrics.scores?.accuracy, types]
            .collect { value -> value == null ? '' : value }
            .join('\t')
    }
    header = ['sample', 'cells', 'unassigned', 'genes_matched', 'genes_of_the_model', 'accuracy', 'types'].join('\t')
    summary = rows.collectFile(name: 'summary.tsv', seed: header, newLine: true, sort: true, storeDir: params.outdir)

    models = model ? channel.empty() : trained.map { _meta, folder -> folder }
    files = models.mix(annotated.map { _meta, cells -> cells }, SCGPT_ANNOTATE.out.record.map { _meta, record -> record })

    emit:
    files // channel: what the report is made of
    annotated // channel: [meta, cells]
    summary // channel: table of all samples
}
