/*
 * `ringlab pktgen`: a packet generator on netmap ports. What it does is in pktgen/.
 */
#include "harness/cmd.h"
#include "harness/pktgen/pktgen.h"

int cmd_pktgen(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    int status;
    struct pktgen_options *options = pktgen_parse(argc, argv, &status);

    if (!options) {
        return status;
    }
    struct pktgen_bed *bed = pktgen_bed_new(options, &error);
    if (bed) {
        status = pktgen_run(bed, options);
        pktgen_bed_free(bed);
    } else {
        cmd_error("%s", error->message);
        status = CMD_USAGE;
    }
    pktgen_options_free(options);
    return status;
}
