/* A program with a secret of its own: the weights of a model, in a file of the encrypted image. It knows nothing of
 * MarbleRun. The first argument is the input. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *input = argc > 1 ? argv[1] : "0", *unit = getenv("MODEL_UNIT");
    FILE *weights = fopen("/opt/model/weights", "r");
    double slope, offset;

    if (!weights || fscanf(weights, "slope %lf offset %lf", &slope, &offset) != 2) {
        fprintf(stderr, "%s: no weights\n", argv[0]);
        return 1;
    }
    fclose(weights);
    printf("%s: %s gives %.2f %s\n", argv[0], input, slope * atof(input) + offset, unit ? unit : "");
    return 0;
}
