// SPDX-License-Identifier: GPL-2.0-only
/*
 * labgpu: a GPU driver that behaves like the worst of them, for the lab's display card.
 *
 * Its remove() does not return while anybody uses the device, and neither a signal nor a time limit ends the wait, as
 * in nv_pci_remove_helper() of NVIDIA's open kernel modules ("We can't return from this function without corrupting
 * state, so we wait"). Leaving it through a module unload is safe: that fails at once while the module is in use.
 *
 * Each bound function has one node, /dev/labgpuN, of the class "labgpu" below its PCI device. Mapping the node and
 * closing the descriptor uses the device too, as a mapping keeps the file. From when remove() has begun the node is
 * there until the wait is over, but refuses to be opened.
 *
 * By its own table it takes 1002:5046 alone; with driver_override it takes what it is given (an audio function).
 *
 * /sys/module/labgpu/parameters:
 *   hold_module   a client within the kernel uses every device: a module reference that no open file explains
 *   never_return  remove() does not return until this is cleared, whoever uses the device or not
 *   slow_remove   remove() takes this many milliseconds more
 *   opens         read only: open nodes of all devices
 *   removing      read only: calls of remove() that have not returned. Reading it touches no device and no lock
 */
#include <linux/cdev.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/version.h>

#define MINORS 8

struct labgpu {
	struct device dev; /* the node; the cdev holds a reference on it as long as a file is open */
	struct cdev cdev;
	struct page *page; /* what a mapping of the node shows */
	unsigned int users;
	bool leaving;
};

static DEFINE_MUTEX(lock); /* of users, leaving, and all counts below */
static DEFINE_IDA(minors);
static dev_t first;
static struct class *labgpu_class;

static bool hold_module;
static bool never_return;
static unsigned int slow_remove;
static unsigned int opens;
static unsigned int removing;

static int hold_module_set(const char *text, const struct kernel_param *param)
{
	bool wanted;
	int err = kstrtobool(text, &wanted);

	if (err)
		return err;
	mutex_lock(&lock);
	if (wanted && !hold_module && !try_module_get(THIS_MODULE))
		err = -ENODEV;
	if (!wanted && hold_module)
		module_put(THIS_MODULE);
	if (!err)
		hold_module = wanted;
	mutex_unlock(&lock);
	return err;
}

static const struct kernel_param_ops hold_module_ops = {
	.set = hold_module_set,
	.get = param_get_bool,
};
module_param_cb(hold_module, &hold_module_ops, &hold_module, 0644);
module_param(never_return, bool, 0644);
module_param(slow_remove, uint, 0644);
module_param(opens, uint, 0444);
module_param(removing, uint, 0444);

static int labgpu_open(struct inode *inode, struct file *file)
{
	struct labgpu *gpu = container_of(inode->i_cdev, struct labgpu, cdev);
	int err = 0;

	mutex_lock(&lock);
	if (gpu->leaving) {
		err = -ENODEV;
	} else {
		gpu->users++;
		opens++;
		file->private_data = gpu;
	}
	mutex_unlock(&lock);
	return err;
}

static int labgpu_release(struct inode *inode, struct file *file)
{
	struct labgpu *gpu = file->private_data;

	mutex_lock(&lock);
	gpu->users--;
	opens--;
	mutex_unlock(&lock);
	return 0;
}

static int labgpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct labgpu *gpu = file->private_data;

	return vm_insert_page(vma, vma->vm_start, gpu->page);
}

static const struct file_operations labgpu_fops = {
	.owner = THIS_MODULE,
	.open = labgpu_open,
	.release = labgpu_release,
	.mmap = labgpu_mmap,
};

static void labgpu_free(struct device *dev)
{
	struct labgpu *gpu = container_of(dev, struct labgpu, dev);

	ida_free(&minors, MINOR(dev->devt));
	if (gpu->page)
		__free_page(gpu->page);
	kfree(gpu);
}

static int labgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct labgpu *gpu;
	int minor, err;

	err = pci_enable_device(pdev);
	if (err)
		return err;
	minor = ida_alloc_max(&minors, MINORS - 1, GFP_KERNEL);
	if (minor < 0) {
		err = minor;
		goto disable;
	}
	gpu = kzalloc(sizeof(*gpu), GFP_KERNEL);
	if (!gpu) {
		ida_free(&minors, minor);
		err = -ENOMEM;
		goto disable;
	}
	device_initialize(&gpu->dev);
	gpu->dev.class = labgpu_class;
	gpu->dev.parent = &pdev->dev;
	gpu->dev.devt = first + minor;
	gpu->dev.release = labgpu_free;
	cdev_init(&gpu->cdev, &labgpu_fops);
	gpu->cdev.owner = THIS_MODULE;
	err = -ENOMEM;
	gpu->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!gpu->page)
		goto put;
	err = dev_set_name(&gpu->dev, "labgpu%d", minor);
	if (err)
		goto put;
	err = cdev_device_add(&gpu->cdev, &gpu->dev);
	if (err)
		goto put;
	pci_set_drvdata(pdev, gpu);
	return 0;
put:
	put_device(&gpu->dev);
disable:
	pci_disable_device(pdev);
	return err;
}

static bool labgpu_is_used(struct labgpu *gpu)
{
	bool used;

	mutex_lock(&lock);
	used = gpu->users || hold_module || READ_ONCE(never_return);
	mutex_unlock(&lock);
	return used;
}

static void labgpu_remove(struct pci_dev *pdev)
{
	struct labgpu *gpu = pci_get_drvdata(pdev);

	mutex_lock(&lock);
	gpu->leaving = true;
	removing++;
	mutex_unlock(&lock);
	msleep(READ_ONCE(slow_remove));
	while (labgpu_is_used(gpu))
		msleep(500); /* uninterruptible */
	cdev_device_del(&gpu->cdev, &gpu->dev);
	put_device(&gpu->dev);
	pci_disable_device(pdev);
	mutex_lock(&lock);
	removing--;
	mutex_unlock(&lock);
}

static const struct pci_device_id labgpu_ids[] = {
	{ PCI_DEVICE(0x1002, 0x5046) },
	{}
};
MODULE_DEVICE_TABLE(pci, labgpu_ids);

static struct pci_driver labgpu_driver = {
	.name = "labgpu",
	.id_table = labgpu_ids,
	.probe = labgpu_probe,
	.remove = labgpu_remove,
};

static int __init labgpu_init(void)
{
	int err = alloc_chrdev_region(&first, 0, MINORS, "labgpu");

	if (err)
		return err;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
	labgpu_class = class_create(THIS_MODULE, "labgpu");
#else
	labgpu_class = class_create("labgpu");
#endif
	if (IS_ERR(labgpu_class)) {
		err = PTR_ERR(labgpu_class);
		goto unregister;
	}
	err = pci_register_driver(&labgpu_driver);
	if (err)
		goto destroy;
	return 0;
destroy:
	class_destroy(labgpu_class);
unregister:
	unregister_chrdev_region(first, MINORS);
	return err;
}
module_init(labgpu_init);

static void __exit labgpu_exit(void)
{
	pci_unregister_driver(&labgpu_driver);
	class_destroy(labgpu_class);
	unregister_chrdev_region(first, MINORS);
}
module_exit(labgpu_exit);

MODULE_DESCRIPTION("A GPU driver whose remove() waits for its users");
MODULE_LICENSE("GPL");
