// bench/simgrid/alltoall_smpi.c: one all-to-all under SimGrid's SMPI: alltoall_smpi BYTES.
//
// Compiled by smpicc, run by smpirun: bench/simgrid/run. Prints what the slowest rank saw between
// two barriers, in simulated microseconds.

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    int rank;
    int ranks;
    double longest;
    if (MPI_Init(&argc, &argv) != MPI_SUCCESS)
        return 1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int bytes = argc > 1 ? atoi(argv[1]) : 0;
    if (bytes <= 0) {
        if (rank == 0)
            fprintf(stderr, "usage: alltoall_smpi BYTES\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    char *from = SMPI_SHARED_MALLOC((size_t)bytes * (size_t)ranks);
    char *to = SMPI_SHARED_MALLOC((size_t)bytes * (size_t)ranks);
    MPI_Barrier(MPI_COMM_WORLD);
    double begin = MPI_Wtime();
    MPI_Alltoall(from, bytes, MPI_BYTE, to, bytes, MPI_BYTE, MPI_COMM_WORLD);
    double took = MPI_Wtime() - begin;
    MPI_Reduce(&took, &longest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("simulated_us %.3f\n", longest * 1e6);
    SMPI_SHARED_FREE(from);
    SMPI_SHARED_FREE(to);
    MPI_Finalize();
    return 0;
}
