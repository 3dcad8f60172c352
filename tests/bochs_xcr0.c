/* A kernel module: lets programs use AVX-512 on a machine of Bochs, whose list of what a processor saves Linux finds odd and
 * therefore does without. Nothing saves the vectors then, so only one process at a time may use them. */
#include <asm/tlbflush.h>
#include <linux/module.h>

static int __init enable(void)
{
    unsigned long flags;
    local_irq_save(flags);
    cr4_set_bits_irqsoff(X86_CR4_OSXSAVE);
    asm volatile("xsetbv" ::"a"(0xe7), "d"(0), "c"(0)); /* x87, SSE, AVX, masks, both parts of the 512-bit registers */
    local_irq_restore(flags);
    return 0;
}
module_init(enable);
MODULE_LICENSE("GPL");
