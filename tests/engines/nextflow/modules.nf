// Runs modules with options that no pipeline sets, and prints what they emit.

include { SCGPT_FINETUNEANNOTATION } from '../../../modules/scgpttools/scgpt/finetuneannotation/main'
include { SCGPT_EMBED              } from '../../../modules/scgpttools/scgpt/embed/main'
include { SCGPT_CHECKPOINTINSPECT  } from '../../../modules/scgpttools/scgpt/checkpointinspect/main'
include { SCGPT_CHECKPOINTCONVERT  } from '../../../modules/scgpttools/scgpt/checkpointconvert/main'
include { SCGPT_GENERATE           } from '../../../modules/scgpttools/scgpt/generate/main'
include { SCGPT_INTEGRATE          } from '../../../modules/scgpttools/scgpt/integrate/main'
include { SCGPT_FINETUNEPERTURBATION } from '../../../modules/scgpttools/scgpt/finetuneperturbation/main'
include { SCGPT_PERTURBMAP           } from '../../../modules/scgpttools/scgpt/perturbmap/main'
include { SCGPT_REPORT               } from '../../../modules/scgpttools/scgpt/report/main'
include { SCGPT_PERTURBINSILICO      } from '../../../modules/scgpttools/scgpt/perturbinsilico/main'
include { SCGPT_MAPREFERENCEBUILD    } from '../../../modules/scgpttools/scgpt/mapreferencebuild/main'
include { SCGPT_MAPREFERENCEQUERY    } from '../../../modules/scgpttools/scgpt/mapreferencequery/main'
include { SCGPT_GRNPROGRAMS          } from '../../../modules/scgpttools/scgpt/grnprograms/main'

workflow {
    cells = file("${projectDir}/../../../assets/test/reference.h5ad", checkIfExists: true)
    SCGPT_FINETUNEANNOTATION(channel.value([[id: 'model'], cells]), 'cell_type', [])
    model = SCGPT_FINETUNEANNOTATION.out.model
    SCGPT_EMBED(channel.of([[id: 'cells'], cells]), model)
    SCGPT_CHECKPOINTINSPECT(model)
    SCGPT_CHECKPOINTCONVERT(model.map { _meta, directory -> [[id: 'converted'], directory] })
    generative = file("${projectDir}/../../data/pretrain/checkpoint", checkIfExists: true)
    SCGPT_GENERATE(channel.of([[id: 'generated'], cells]), [[id: 'generative'], generative], [])
    (genes, antibodies) = ['first', 'first_protein'].collect { name -> file("${projectDir}/../../../assets/test/${name}.h5ad", checkIfExists: true) }
    SCGPT_INTEGRATE(channel.of([[id: 'integrated'], genes, antibodies, [], []]), [])
    perturbed = file("${projectDir}/../../../tools/test-data/perturbed.h5ad", checkIfExists: true)
    SCGPT_FINETUNEPERTURBATION(channel.value([[id: 'perturbation'], perturbed]), [])
    SCGPT_PERTURBMAP(channel.of([[id: 'mapped'], perturbed, []]), SCGPT_FINETUNEPERTURBATION.out.model, [], [])
    SCGPT_PERTURBINSILICO(channel.of([[id: 'shifts'], cells, 'cell_type', 'alpha', 'beta']), [[id: 'generative'], generative], [])
    embedded = file("${projectDir}/../../../tools/test-data/embedded.h5ad", checkIfExists: true)
    SCGPT_MAPREFERENCEBUILD(channel.value([[id: 'index'], embedded, 'cell_type']), [])
    SCGPT_MAPREFERENCEQUERY(channel.of([[id: 'queried'], embedded, 'cell_type']), SCGPT_MAPREFERENCEBUILD.out.index, embedded)
    SCGPT_REPORT(model.map { _meta, directory -> [[id: 'report'], directory] })
    families = file("${projectDir}/../../../tools/test-data/gene_sets.gmt", checkIfExists: true)
    SCGPT_GRNPROGRAMS(channel.of([[id: 'programs'], cells, 'cell_type', ['alpha', 'beta']]), [[id: 'generative'], generative], [], families)
    SCGPT_FINETUNEANNOTATION.out.metrics
        .mix(SCGPT_FINETUNEANNOTATION.out.test_cells)
        .mix(SCGPT_EMBED.out.h5ad, SCGPT_EMBED.out.plot, SCGPT_EMBED.out.record)
        .mix(SCGPT_CHECKPOINTINSPECT.out.report, SCGPT_CHECKPOINTINSPECT.out.record)
        .mix(SCGPT_CHECKPOINTCONVERT.out.model, SCGPT_CHECKPOINTCONVERT.out.record)
        .mix(SCGPT_GENERATE.out.h5ad, SCGPT_GENERATE.out.metrics, SCGPT_GENERATE.out.record)
        .mix(SCGPT_INTEGRATE.out.h5ad, SCGPT_INTEGRATE.out.model, SCGPT_INTEGRATE.out.metrics)
        .mix(SCGPT_INTEGRATE.out.plot, SCGPT_INTEGRATE.out.record)
        .mix(SCGPT_PERTURBMAP.out.h5ad, SCGPT_PERTURBMAP.out.table, SCGPT_PERTURBMAP.out.plot, SCGPT_PERTURBMAP.out.record)
        .mix(SCGPT_MAPREFERENCEBUILD.out.index, SCGPT_MAPREFERENCEBUILD.out.record)
        .mix(SCGPT_MAPREFERENCEQUERY.out.h5ad, SCGPT_MAPREFERENCEQUERY.out.table, SCGPT_MAPREFERENCEQUERY.out.plot)
        .mix(SCGPT_MAPREFERENCEQUERY.out.metrics, SCGPT_MAPREFERENCEQUERY.out.record)
        .mix(SCGPT_PERTURBINSILICO.out.tsv, SCGPT_PERTURBINSILICO.out.record)
        .mix(SCGPT_REPORT.out.html, SCGPT_REPORT.out.summary, SCGPT_REPORT.out.record)
        .mix(SCGPT_GRNPROGRAMS.out.program_scores, SCGPT_GRNPROGRAMS.out.plot, SCGPT_GRNPROGRAMS.out.scored_cells)
        .mix(SCGPT_GRNPROGRAMS.out.similar_genes, SCGPT_GRNPROGRAMS.out.family_test)
        .view { meta, path -> "emitted ${meta.id}: ${path.name}" }
    channel.topic('versions').view { process, program, version -> "version ${process}: ${program} ${version}" }
}
