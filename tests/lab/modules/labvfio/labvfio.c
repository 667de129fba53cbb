// SPDX-License-Identifier: GPL-2.0-only
/*
 * labvfio: a VFIO variant driver for the lab's display card that adds nothing to vfio-pci.
 *
 * It is there for its alias, vfio_pci:v00001002d00005046..., which is a better match for the card than vfio-pci's own,
 * and for its name, which is not vfio-pci's. What kind of driver this is: drivers/vfio/pci/Kconfig and
 * Documentation/driver-api/vfio.rst of the kernel.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/version.h>
#include <linux/vfio_pci_core.h>

static int labvfio_open_device(struct vfio_device *device)
{
	struct vfio_pci_core_device *core = container_of(device, struct vfio_pci_core_device, vdev);
	int err = vfio_pci_core_enable(core);

	if (err)
		return err;
	vfio_pci_core_finish_enable(core);
	return 0;
}

static const struct vfio_device_ops labvfio_ops = {
	.name = "labvfio",
	.init = vfio_pci_core_init_dev,
	.release = vfio_pci_core_release_dev,
	.open_device = labvfio_open_device,
	.close_device = vfio_pci_core_close_device,
	.ioctl = vfio_pci_core_ioctl,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = vfio_pci_core_read,
	.write = vfio_pci_core_write,
	.mmap = vfio_pci_core_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
#endif
};

static int labvfio_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vfio_pci_core_device *core;
	int err;

	core = vfio_alloc_device(vfio_pci_core_device, vdev, &pdev->dev, &labvfio_ops);
	if (IS_ERR(core))
		return PTR_ERR(core);
	dev_set_drvdata(&pdev->dev, core);
	err = vfio_pci_core_register_device(core);
	if (err)
		vfio_put_device(&core->vdev);
	return err;
}

static void labvfio_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	vfio_pci_core_unregister_device(core);
	vfio_put_device(&core->vdev);
}

static const struct pci_device_id labvfio_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(0x1002, 0x5046) },
	{}
};
MODULE_DEVICE_TABLE(pci, labvfio_ids);

static struct pci_driver labvfio_driver = {
	.name = "labvfio",
	.id_table = labvfio_ids,
	.probe = labvfio_probe,
	.remove = labvfio_remove,
	.err_handler = &vfio_pci_core_err_handlers,
	.driver_managed_dma = true,
};
module_pci_driver(labvfio_driver);

MODULE_DESCRIPTION("A VFIO variant driver that adds nothing");
MODULE_LICENSE("GPL");
