// Annotates samples in parallel with one model. Without `model`, it is first fine-tuned on a labeled reference.

include { SCGPT_FINETUNEANNOTATION } from '../modules/scgpttools/scgpt/finetuneannotation/main'
include { SCGPT_ANNOTATE           } from '../modules/scgpttools/scgpt/annotate/main'

workflow ANNOTATE {
    take:
    samples // channel: [meta, cells]
    model // directory of a fine-tuned model, or null
    reference // labeled cells, or null
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
        def cell_types = (metrics.predicted_cell_types ?: [:]).collect { type, cells -> "${type}: ${cells}" }.join('; ')
        [meta.id, metrics.cells, metrics.unassigned, metrics.genes_matched, metrics.model_genes, metrics.scores?.accuracy, cell_types]
            .collect { value -> value == null ? '' : value }
            .join('\t')
    }
    header = ['sample', 'cells', 'unassigned', 'genes_matched', 'model_genes', 'accuracy', 'predicted_cell_types'].join('\t')
    summary = rows.collectFile(name: 'summary.tsv', seed: header, newLine: true, sort: true, storeDir: params.outdir)

    models = model ? channel.empty() : trained.map { _meta, directory -> directory }
    files = models.mix(annotated.map { _meta, cells -> cells }, SCGPT_ANNOTATE.out.record.map { _meta, record -> record })

    emit:
    files // channel: inputs of the report
    annotated // channel: [meta, cells]
    summary // channel: summary table of all samples
}
