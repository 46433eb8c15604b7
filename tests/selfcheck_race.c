// Planted: two threads write one variable without order.

#include "tests/test.h"

#include <pthread.h>

static long shared;

static void *add_many(void *argument)
{
    for (int i = 0; i < 10000; i++)
        shared++;
    return argument;
}

TEST(selfcheck_races)
{
    pthread_t other;
    CHECK_EQ(pthread_create(&other, NULL, add_many, NULL), 0);
    add_many(NULL);
    CHECK_EQ(pthread_join(other, NULL), 0);
    CHECK(shared > 0);
}
